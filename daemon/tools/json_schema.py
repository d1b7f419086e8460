"""Whether something is a JSON Schema."""

import json
from functools import lru_cache

from jsonschema import Draft202012Validator, SchemaError

from daemon.tools.result import brief


@lru_cache(maxsize=256)
def problem(text: str, *, python_patterns: bool) -> str:
    """What makes this JSON text no JSON Schema, and where; nothing when it is one.

    `python_patterns`: its regular expressions must be Python's. A look takes milliseconds, for long ones a
    second, and is remembered.
    """
    formats = Draft202012Validator.FORMAT_CHECKER if python_patterns else None
    try:
        Draft202012Validator.check_schema(json.loads(text), format_checker=formats)
    except SchemaError as error:
        place = ".".join(map(str, error.absolute_path)) or "the top"
        return f"no JSON Schema at {brief(place)}: {brief(error.message)}"
    except OverflowError as error:  # of the number of repetitions in a regular expression
        return f"no JSON Schema: a pattern in it: {error}"
    except RecursionError:
        return "nested too deeply"
    return ""
