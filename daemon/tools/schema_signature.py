"""The arguments of a tool that comes with a JSON schema instead of a typed function."""

import json
from collections.abc import Mapping
from typing import Any

import jsonschema

from daemon.tools.errors import ToolDeclarationError
from daemon.tools.json_schema import problem

# The parameter through which such a tool gets its ToolContext; no argument of a model can have that name.
CONTEXT = "$context"


class SchemaSignature:
    """Like `Signature`, for functions that take their arguments by keyword and the context as `$context`.

    Raises ToolDeclarationError naming `where` the schema stands.
    """

    context_parameter: str | None = CONTEXT

    def __init__(self, schema: Mapping[str, Any], where: str) -> None:
        self.schema = dict(schema)
        if self.schema.get("type") != "object":
            raise ToolDeclarationError(f"{where}: the schema of the arguments must have type `object`.")
        self.schema.setdefault("properties", {})
        self.schema.setdefault("required", [])
        if wrong := problem(json.dumps(self.schema), python_patterns=True):
            raise ToolDeclarationError(f"{where}: {wrong}; mend it there.")
        self._validator = jsonschema.Draft202012Validator(self.schema)

    def values(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments with the schema's defaults. Raises ValueError with a sentence for the model."""
        problems = [
            ": ".join(filter(None, (".".join(map(str, error.absolute_path)), error.message)))
            for error in self._validator.iter_errors(arguments)
        ]
        if problems:
            raise ValueError("; ".join(problems[:5]))
        if CONTEXT in arguments:
            raise ValueError(f"there is no argument {CONTEXT}")
        defaults = {
            name: inner["default"]
            for name, inner in self.schema["properties"].items()
            if isinstance(inner, dict) and "default" in inner
        }
        return {**defaults, **arguments}
