"""Grammars for requests: from response format and tools to what the engine enforces."""

import json
from functools import lru_cache
from typing import Any

from daemon.agent.errors import UnsupportedSchema
from daemon.tools.grammar import reason
from engines.errors import GrammarError
from engines.serve.grammar import Grammar
from engines.tokenizer import Format, Shape
from engines.tokenizer.formats import json_text
from engines.tokenizer.identity import IdentityCache
from schemas.request import (
    ChoiceFormat,
    JsonObjectFormat,
    JsonSchemaFormat,
    RegexFormat,
    ResponseFormat,
    TextFormat,
)


def shape_of(wanted: ResponseFormat | None) -> Shape | None:
    """The shape that a response format asks for; None for plain text."""
    match wanted:
        case None | TextFormat():
            return None
        case JsonObjectFormat():
            return Shape.json_schema({"type": "object"})
        case JsonSchemaFormat():
            return Shape.json_schema(wanted.json_schema.schema_)
        case RegexFormat():
            return Shape.regex(wanted.regex)
        case ChoiceFormat():
            return Shape.choice(wanted.choice)


def value_of(wanted: ResponseFormat | None, text: str) -> Any:
    """The value of a complete answer in that format. Raises ValueError when it is none, or none that a reply
    can hold."""
    match wanted:
        case None | TextFormat():
            return None
        case JsonObjectFormat() | JsonSchemaFormat():
            return json_text.loads(text)
        case _:
            return text


class Constraints:
    """Builds the grammars of one format and keeps the last ones: most requests share theirs."""

    def __init__(self, format_: Format) -> None:
        self._format = format_
        self._text_of = IdentityCache[str](json.dumps)
        self._cached = lru_cache(maxsize=64)(self._build)

    def length(self, tools: tuple[dict[str, Any], ...], shape: Shape | None) -> int:
        """Of what `grammar` would look at, in characters."""
        return len(self._text_of(tools)) + (len(shape.expression) if shape else 0)

    def grammar(
        self, tools: tuple[dict[str, Any], ...], choice: str, shape: Shape | None, parallel: bool = False
    ) -> Grammar | None:
        """None when everything is allowed. Raises UnsupportedSchema, ToolSchemaRefused."""
        if not tools and shape is None:
            return None
        return self._cached(self._text_of(tools), choice, shape, parallel)

    def _build(self, tools_json: str, choice: str, shape: Shape | None, parallel: bool) -> Grammar:
        tools = json.loads(tools_json)
        try:
            return Grammar.lark(self._format.grammar(tools, choice, answer=shape, parallel=parallel))
        except GrammarError as error:
            raise UnsupportedSchema(f"{self._culprit(tools, shape)}: {reason(error)}") from error

    def _culprit(self, tools: list[dict[str, Any]], shape: Shape | None) -> str:
        for tool in tools:
            try:
                Grammar.lark(self._format.grammar([tool], "required"))
            except GrammarError:
                return f"tools: {tool['function']['name']}"
        return "response_format" if shape is not None else "tools"
