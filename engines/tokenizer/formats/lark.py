"""Pieces of llguidance's Lark dialect (https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md)."""

import json
import re
from typing import Any

# The spelling of Python's json.dumps, in which GLM models were shown JSON; no freedom where none is needed.
JSON_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}

ANY_TEXT = "/(?s:.*)/"


def quote(text: str) -> str:
    """A string literal."""
    return json.dumps(text, ensure_ascii=False)


def regex(pattern: str) -> str:
    """A regular expression between slashes; slashes and line ends in it are escaped."""
    escaped = re.sub(r"(\\.)|/", lambda match: match[1] or r"\/", pattern, flags=re.DOTALL)
    return "/" + escaped.replace("\r", r"\r").replace("\n", r"\n") + "/"


def anchored(pattern: str) -> str:
    """A JSON Schema `pattern`, which matches anywhere, as an expression for the whole string."""
    start = "" if pattern.startswith("^") else "(?s:.*)"
    end = "" if pattern.endswith("$") and not pattern.endswith("\\$") else "(?s:.*)"
    body = pattern.removeprefix("^")
    return f"{start}(?:{body.removesuffix('$') if not end else body}){end}"


def json_value(schema: dict[str, Any] | bool, **style: Any) -> str:
    """A JSON value under `schema`, spelled the one way that JSON_STYLE allows."""
    if isinstance(schema, bool):
        schema = {} if schema else {"not": {}}
    return "%json " + json.dumps({**schema, "x-guidance": {**JSON_STYLE, **style}}, ensure_ascii=False)


def alternatives(expressions: list[str]) -> str:
    return "(" + " | ".join(expressions) + ")"
