"""What a call may have, property by property: for formats that write one argument after another.

The schema of all arguments may combine others (`$ref`, `allOf`, `anyOf`). It is taken apart into the ways to
fit it, each of them some schemas that hold together, and these into the properties that they leave.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, combinations, product
from math import comb
from typing import Any
from urllib.parse import unquote

from engines.tokenizer.errors import ToolSchemaRefused
from engines.tokenizer.formats.arguments import argument_schema, is_impossible, is_of_type, types

_WHOLE = "arguments"
# These speak of several properties at once: nothing here could hold a call to them.
_REFUSED = (
    "oneOf", "not", "if", "enum", "const", "propertyNames",
    "dependentRequired", "dependentSchemas", "dependencies",
)  # fmt: skip
_MOST = 64  # ways


@dataclass(frozen=True)
class Property:
    """What `schema` refers to comes with it, wherever in the schema of all arguments that is."""

    name: str
    schema: dict[str, Any]
    required: bool


def alternatives(function: dict[str, Any], write_defaults: bool) -> list[list[Property]]:
    """The properties of `function`'s arguments in order: a call has those of one of these lists.

    Raises ToolSchemaRefused.
    """
    whole = argument_schema(function, write_defaults)
    found, missing = list[list[Property]](), ""
    try:
        for together in _ways(whole, whole, ()):
            properties = list(_properties(together, whole))
            lacking = [each.name for each in properties if each.required and is_impossible(each.schema)]
            if lacking:
                missing = f"required property '{lacking[0]}' is unsatisfiable"
            else:
                found += _counted([each for each in properties if not is_impossible(each.schema)], together)
    except (ValueError, re.error) as error:
        raise ToolSchemaRefused(f"tool {function['name']}: `parameters`: {error}") from None
    if not found:
        missing = missing or "`parameters`: the properties that they name do not fit them"
        raise ToolSchemaRefused(f"tool {function['name']}: {missing}")
    return found


def _ways(schema: Any, whole: Any, above: tuple[str, ...]) -> list[list[dict[str, Any]]]:
    """The ways to fit `schema`, each as schemas that must all be fit and combine no others.

    `above`: the references that led here. Raises ValueError.
    """
    if isinstance(schema, bool):
        return [[]] if schema else []
    if refused := next((key for key in _REFUSED if key in schema), None):
        raise ValueError(f"`{refused}` cannot be kept when arguments are written one by one")
    if not any(is_of_type({}, kind) for kind in types(schema, "object")):
        return []
    choices = [_ways(part, whole, above) for part in schema.get("allOf", [])]
    if (place := schema.get("$ref")) is not None:
        if place in above:
            raise ValueError(f"`$ref` {place!r} leads to itself")
        choices.append(_ways(_target(whole, place), whole, (*above, place)))
    if "anyOf" in schema:
        choices.append([way for branch in schema["anyOf"] for way in _ways(branch, whole, above)])
    ways = [[schema]]
    for choice in choices:
        ways = [before + after for before, after in product(ways, choice)]
        if len(ways) > _MOST:
            raise ValueError(f"more than {_MOST} ways to fit them")
    return ways


def _target(whole: Any, place: str) -> Any:
    """Raises ValueError."""
    found = whole
    for step in unquote(place).removeprefix("#").split("/")[1:]:
        step_ = step.replace("~1", "/").replace("~0", "~")
        try:
            found = found[int(step_)] if isinstance(found, list) else found[step_]
        except (LookupError, TypeError, ValueError):
            raise ValueError(f"`$ref` {place!r} leads nowhere") from None
    if not _is_place("$ref", place):
        raise ValueError(f"`$ref` {place!r} is no place in them, as `#/$defs/name`")
    return found


def _properties(together: list[dict[str, Any]], whole: Any) -> Iterator[Property]:
    """All that are named; one that may not be there has a schema without values."""
    required = dict.fromkeys(name for schema in together for name in schema.get("required", []))
    listed = chain.from_iterable(schema.get("properties", {}) for schema in together)
    shared = {"$defs": {_WHOLE: _moved(whole)}}
    for name in dict.fromkeys([*listed, *required]):
        said = list[Any]()
        for each in chain.from_iterable(_said(schema, name) for schema in together):
            if each is not True and each not in ({}, *said):
                said.append(each)
        impossible = any(map(is_impossible, said))
        schema = {"enum": []} if impossible else {"allOf": said} if len(said) > 1 else dict(*said)
        if '"$ref"' in json.dumps(schema):
            schema = {**_moved(schema), **shared}
        yield Property(name, schema, name in required)


def _said(schema: dict[str, Any], name: str) -> list[Any]:
    """What an object schema says of property `name`. Raises re.error for a pattern that is not Python's."""
    own = [schema["properties"][name]] if name in schema.get("properties", {}) else []
    patterns = schema.get("patternProperties", {}).items()
    own += [inner for pattern, inner in patterns if re.search(pattern, name)]
    return own or [schema.get("additionalProperties", True)]


def _counted(properties: list[Property], together: list[dict[str, Any]]) -> list[list[Property]]:
    """The lists that are as long as `minProperties` and `maxProperties` want. Raises ValueError."""
    if len(properties) > min(schema.get("maxProperties", len(properties)) for schema in together):
        raise ValueError("`maxProperties` cannot be kept when arguments are written one by one")
    lacking = max(schema.get("minProperties", 0) for schema in together)
    lacking -= sum(each.required for each in properties)
    if lacking <= 0:
        return [properties]
    optional = [each for each in properties if not each.required]
    if comb(len(optional), lacking) > _MOST:
        raise ValueError(f"`minProperties`: more than {_MOST} ways to fit them")
    return [
        [replace(each, required=each.required or each in must) for each in properties]
        for must in combinations(optional, lacking)
    ]


def _moved(schema: Any) -> Any:
    """With references to places in the schema of all arguments as they are where that is a definition."""
    if isinstance(schema, list):
        return [_moved(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: f"#/$defs/{_WHOLE}{value[1:]}" if _is_place(key, value) else _moved(value)
        for key, value in schema.items()
    }


def _is_place(key: str, value: Any) -> bool:
    """A reference by name, as `#node`, holds wherever it stands."""
    return key == "$ref" and isinstance(value, str) and (value == "#" or value.startswith("#/"))
