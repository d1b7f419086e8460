"""What form an answer must have."""

from dataclasses import dataclass
from typing import Any

from engines.tokenizer.formats import lark


@dataclass(frozen=True)
class Shape:
    """One rule for a whole answer, as the right-hand side of a Lark rule."""

    expression: str

    @classmethod
    def json_schema(cls, schema: dict[str, Any]) -> "Shape":
        return cls(lark.json_value(schema))

    @classmethod
    def regex(cls, pattern: str) -> "Shape":
        return cls(lark.regex(pattern))

    @classmethod
    def choice(cls, options: list[str]) -> "Shape":
        """`options` must not be empty."""
        return cls(lark.alternatives([lark.quote(option) for option in options]))
