"""The schema of a tool's arguments, made ready for a grammar."""

from typing import Any

from engines.tokenizer.errors import ToolSchemaRefused

# Exactly these: to Python, a bool is an int as well.
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
_COMBINED = ("$ref", "allOf", "anyOf", "oneOf", "if", "patternProperties")
_WHOLE = "arguments"


def argument_schema(function: dict[str, Any], write_defaults: bool) -> dict[str, Any]:
    """The object schema of `function`'s arguments, closed unless it says otherwise.

    JSON Schema allows properties that nobody named; a model would fill them with inventions, so the top level
    is closed where it plainly lists its properties. With `write_defaults`, properties with a usable default
    become required: writing a default means the same as leaving it out. `parameters` must be a valid JSON
    Schema. Raises ToolSchemaRefused.
    """
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    properties = schema.get("properties", {})
    if schema.get("type", "object") != "object" or not isinstance(properties, dict):
        raise ToolSchemaRefused(
            f"tool {function['name']}: `parameters` must be a JSON Schema of type object with `properties`."
        )
    if any(key in schema for key in _COMBINED):
        return {"type": "object", **schema}
    for name in schema.get("required", []):
        if _is_impossible(properties.get(name)):
            raise ToolSchemaRefused(f"tool {function['name']}: required property '{name}' is unsatisfiable")
    closed = {"type": "object", "additionalProperties": False, **schema, "properties": properties}
    if write_defaults:
        required = set(schema.get("required", [])) | {
            name for name, schema_ in properties.items() if _usable_default(schema_)
        }
        # In the order of the properties: that is the order in which they are written.
        closed["required"] = [name for name in properties if name in required] + [
            name for name in schema.get("required", []) if name not in properties
        ]
    return closed


def property_schemas(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any], bool]]:
    """(name, schema, required) of each property in order. What a property's schema refers to comes with it,
    wherever in `schema` that is."""
    shared = {"$defs": {_WHOLE: _moved(schema)}}
    required = set(schema.get("required", []))
    alone = []
    for name, property_ in schema.get("properties", {}).items():
        if _is_impossible(property_):  # may only be left out
            continue
        own = property_ if isinstance(property_, dict) else {}
        moved = _moved(own)
        alone.append((name, own if moved == own else {**moved, **shared}, name in required))
    return alone


def _moved(schema: Any) -> Any:
    """With references to places in the schema of all arguments as they are where that is a definition."""
    if isinstance(schema, list):
        return [_moved(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: f"#/$defs/{_WHOLE}{value[1:]}" if _is_reference(key, value) else _moved(value)
        for key, value in schema.items()
    }


def _is_reference(key: str, value: Any) -> bool:
    """By place: one by name, as `#node`, holds wherever it stands."""
    return key == "$ref" and isinstance(value, str) and (value == "#" or value.startswith("#/"))


def options(schema: dict[str, Any]) -> list[Any] | None:
    """What `type` leaves of the values that `enum` or `const` names; None where neither does.

    Schemas from elsewhere often name texts for what they say is a number or a boolean.
    """
    named = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if named is None or "type" not in schema:
        return named
    kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    return [value for value in named if any(_is(value, kind) for kind in kinds)]


def _is(value: Any, kind: str) -> bool:
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return type(value) in _TYPES.get(kind, ())


def _is_impossible(property_: Any) -> bool:
    return property_ is False or (isinstance(property_, dict) and options(property_) == [])


def _usable_default(property_: Any) -> bool:
    """Whether the default itself is legal; schemas from elsewhere often say null where they mean none."""
    if not isinstance(property_, dict) or "default" not in property_:
        return False
    default = property_["default"]
    if (allowed := options(property_)) is not None:
        return default in allowed
    named = property_.get("type", [])
    return any(_is(default, kind) for kind in ([named] if isinstance(named, str) else named))
