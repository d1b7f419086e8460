"""What form an answer must have."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from engines.tokenizer.formats import lark


@dataclass(frozen=True)
class Shape:
    """One rule for a whole answer, as the right-hand side of a Lark rule.

    `closed`: where an answer may end, nothing else may follow.
    """

    expression: str
    closed: bool = False

    @classmethod
    def json_schema(cls, schema: dict[str, Any]) -> "Shape":
        return cls(lark.json_value(schema), schema.get("type") in ("object", "array", "string", "boolean"))

    @classmethod
    def regex(cls, pattern: str) -> "Shape":
        return cls(lark.regex(pattern))

    @classmethod
    def choice(cls, options: list[str]) -> "Shape":
        """`options` must not be empty."""
        ordered = sorted(set(options))  # what begins another one stands right before one that it begins
        closed = not any(after.startswith(before) for before, after in pairwise(ordered))
        return cls(lark.alternatives([lark.quote(option) for option in options]), closed)
