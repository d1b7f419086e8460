"""Type hints of a function → JSON schema of its arguments, and JSON arguments → typed values."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, ValidationError, create_model
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from daemon.tools.context import ToolContext
from daemon.tools.errors import ToolDeclarationError

# How a reader expects to find them; the prompt shows schemas in this order.
_FIRST = ["$ref", "type", "description", "properties", "required", "additionalProperties", "items", "enum"]
_LAST = ["default", "$defs"]


class Signature:
    """The arguments of one tool function. Raises ToolDeclarationError naming `where` the function stands."""

    def __init__(self, function: Callable[..., Any], where: str) -> None:
        self.context_parameter: str | None = None
        try:
            plain, hints = get_type_hints(function), get_type_hints(function, include_extras=True)
        except (NameError, TypeError) as error:
            raise ToolDeclarationError(f"{where}: a type hint cannot be resolved: {error}") from error
        fields: dict[str, Any] = {}
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise ToolDeclarationError(
                    f"{where}: parameter {parameter} cannot be described to a model; "
                    "name every parameter and drop `/`, *args and **kwargs."
                )
            if plain.get(name) in (ToolContext, ToolContext | None):
                if self.context_parameter is not None:
                    raise ToolDeclarationError(
                        f"{where}: {self.context_parameter} and {name} are both a ToolContext; drop one."
                    )
                self.context_parameter = name
                continue
            if name not in hints:
                raise ToolDeclarationError(f"{where}: parameter {name} has no type hint; add one.")
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[name] = (hints[name], default)
        self._names = list(fields)
        try:
            self._model = _model(fields)
            self.schema = _tidy(self._model.model_json_schema(schema_generator=_WithoutTitles))
        except (PydanticUserError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ToolDeclarationError(
                f"{where}: the parameters cannot be described as JSON: {reason}"
            ) from error

    def values(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Keyword arguments with the types of the hints. Raises ValueError with a sentence for the model."""
        try:
            model = self._model.model_validate(arguments)
        except ValidationError as error:
            raise ValueError("; ".join(map(_sentence, error.errors(include_url=False)))) from None
        return {name: getattr(model, _mangled(index)) for index, name in enumerate(self._names)}


class _WithoutTitles(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _model(fields: dict[str, Any]) -> type[BaseModel]:
    """A model whose fields have the parameters' names as aliases, unless their defaults name others: as field
    names, `copy` or `schema` would shadow methods of BaseModel."""
    mangled: dict[str, Any] = {
        _mangled(index): (Annotated[hint, Field(alias=name)], default)
        for index, (name, (hint, default)) in enumerate(fields.items())
    }
    return create_model("Arguments", __config__=ConfigDict(extra="forbid", allow_inf_nan=False), **mangled)


def _mangled(index: int) -> str:
    return f"argument_{index}"


def _tidy(schema: JsonSchemaValue) -> JsonSchemaValue:
    """Keys in reading order, without the titles of models; every object says what it requires."""
    tidy: dict[str, Any] = {}
    if schema.get("type") == "object" and "properties" in schema:
        schema = {"required": [], **schema}
    middle = [key for key in schema if key not in _FIRST and key not in _LAST and key != "title"]
    for key in [*_FIRST, *middle, *_LAST]:
        if key not in schema:
            continue
        value = schema[key]
        if key in ("properties", "$defs"):
            tidy[key] = {name: _tidy(inner) for name, inner in value.items()}
        elif key in ("anyOf", "oneOf", "allOf", "prefixItems"):
            tidy[key] = [_tidy(inner) for inner in value]
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            tidy[key] = _tidy(value)
        else:
            tidy[key] = value
    return tidy


def _sentence(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"])
    return f"{place}: {error['msg']}" if place else str(error["msg"])
