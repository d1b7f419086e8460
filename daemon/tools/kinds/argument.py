"""The arguments of a declared tool: what the model fills in, and what the request itself does."""

from typing import Any, Literal

import jsonschema
from pydantic import BaseModel, ConfigDict, Field, model_validator

from daemon.tools.context import ToolContext

# `ToolContext`'s names that an argument may be filled in from.
Source = Literal["user_id", "tenant", "request_id", "idempotency_key"]


class Argument(BaseModel):
    """One argument, in the words of JSON Schema; `optional`, `secret` and `source` are ours.

    Required unless it has a `default` or is `optional`; what is left out then binds as NULL in `sql` and
    drops its query parameter, header, member or argv element elsewhere. A `secret` is masked in the audit.
    With a `source` the daemon fills it in from the request, and the model neither sees nor chooses it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["string", "integer", "number", "boolean", "array", "object"] = "string"
    description: str | None = None
    enum: list[str | int | float] | None = Field(default=None, min_length=1)
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    minLength: int | None = Field(default=None, ge=0)
    maxLength: int | None = Field(default=None, ge=0)
    pattern: str | None = None
    items: "Argument | None" = None
    properties: "dict[str, Argument] | None" = None
    optional: bool = False
    secret: bool = False
    source: Source | None = None

    @model_validator(mode="after")
    def _fits(self) -> "Argument":
        if self.source is not None and self.default is not None:
            raise ValueError("an argument with a `source` takes no `default`")
        try:
            jsonschema.Draft202012Validator.check_schema(self.json_schema)
            if self.default is not None:
                jsonschema.Draft202012Validator(self.json_schema).validate(self.default)
        except jsonschema.SchemaError as error:
            raise ValueError(f"no JSON Schema: {error.message}") from None
        except jsonschema.ValidationError as error:
            raise ValueError(f"the default does not fit: {error.message}") from None
        return self

    @property
    def json_schema(self) -> dict[str, Any]:
        """JSON Schema of the value."""
        schema: dict[str, Any] = {"type": self.type}
        for key in ("description", "enum", "minimum", "maximum", "minLength", "maxLength", "pattern"):
            if (value := getattr(self, key)) is not None:
                schema[key] = value
        if self.secret:
            schema["writeOnly"] = True
        if self.items is not None:
            schema["items"] = self.items.json_schema
        if self.properties is not None:
            schema |= object_schema(self.properties)
        if self.default is not None:
            schema["default"] = self.default
        return schema

    @property
    def required(self) -> bool:
        return not self.optional and self.default is None


def object_schema(arguments: dict[str, Argument]) -> dict[str, Any]:
    """JSON Schema of an object whose members are `arguments`, without those that the model does not see."""
    seen = {name: argument for name, argument in arguments.items() if argument.source is None}
    return {
        "type": "object",
        "properties": {name: argument.json_schema for name, argument in seen.items()},
        "required": [name for name, argument in seen.items() if argument.required],
        "additionalProperties": False,
    }


def fill_in(arguments: dict[str, Argument], values: dict[str, Any], context: ToolContext) -> dict[str, Any]:
    """`values` from the model, and those that the request gives; a value that nobody gave is None.

    Raises ValueError with a sentence when the request does not give what the tool needs.
    """
    filled = {name: values.get(name) for name in arguments}
    for name, argument in arguments.items():
        if argument.source is not None:
            value = getattr(context, argument.source) or None
            if value is None and argument.required:
                raise ValueError(f"this tool needs the request's {argument.source}, and there is none")
            filled[name] = value
    return filled
