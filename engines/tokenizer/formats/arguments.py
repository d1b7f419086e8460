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
        if is_impossible(properties.get(name)):
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


def options(schema: dict[str, Any]) -> list[Any] | None:
    """What `type` leaves of the values that `enum` or `const` names; None where neither does.

    Schemas from elsewhere often name texts for what they say is a number or a boolean.
    """
    named = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if named is None or "type" not in schema:
        return named
    return [value for value in named if any(is_of_type(value, kind) for kind in types(schema))]


def types(schema: dict[str, Any], *default: str) -> list[str]:
    """The names in `type`."""
    named = schema.get("type", default)
    return [named] if isinstance(named, str) else list(named)


def is_of_type(value: Any, kind: str) -> bool:
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return type(value) in _TYPES.get(kind, ())


def is_impossible(property_: Any) -> bool:
    """Whether no value fits the schema of a property."""
    return property_ is False or (isinstance(property_, dict) and options(property_) == [])


def _usable_default(property_: Any) -> bool:
    """Whether the default itself is legal; schemas from elsewhere often say null where they mean none."""
    if not isinstance(property_, dict) or "default" not in property_:
        return False
    default = property_["default"]
    if (allowed := options(property_)) is not None:
        return default in allowed
    return any(is_of_type(default, kind) for kind in types(property_))
