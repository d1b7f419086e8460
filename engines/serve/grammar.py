"""What an answer may look like: validated specifications, independent of any tokenizer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

from llguidance import LLMatcher

from engines.errors import GrammarError


@dataclass(frozen=True, slots=True)
class Grammar:
    """A grammar in llguidance's own notation; make one with a class method. Equal specs compile once."""

    spec: str

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any]) -> Self:
        """JSON that fits `schema`, separators ", " and ": ", no other whitespace. Raises GrammarError."""
        try:
            # One way to write a value: fewer tokens to decode, and what the bundled model was trained on.
            spec = LLMatcher.grammar_from_json_schema(
                json.dumps(schema),
                overrides={"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False},
            )
        except (TypeError, ValueError) as error:
            raise GrammarError(f"JSON schema: {error}") from error
        return cls._checked("JSON schema", spec)

    @classmethod
    def choice(cls, options: Sequence[str]) -> Self:
        """Exactly one of `options`. Raises GrammarError."""
        if not options or not all(isinstance(option, str) and option for option in options):
            raise GrammarError("choice: give at least one option, and no empty one")
        lark = "start: " + " | ".join(json.dumps(option, ensure_ascii=False) for option in options)
        return cls._checked("choice", LLMatcher.grammar_from_lark(lark))

    @classmethod
    def regex(cls, pattern: str) -> Self:
        """Text that matches `pattern` as a whole (Rust regex syntax). Raises GrammarError."""
        return cls._checked("regex", LLMatcher.grammar_from_regex(pattern))

    @classmethod
    def lark(cls, text: str) -> Self:
        """A Lark grammar as llguidance reads it; special tokens as <|name|>. Raises GrammarError."""
        return cls._checked("Lark grammar", LLMatcher.grammar_from_lark(text))

    @classmethod
    def _checked(cls, kind: str, spec: str) -> Self:
        if problem := _problem(spec):
            raise GrammarError(f"{kind}: {problem}")
        return cls(spec)


@lru_cache(maxsize=256)
def _problem(spec: str) -> str:
    """What is wrong with `spec`, or nothing. Requests repeat their specs, and a look takes milliseconds."""
    failed, messages = LLMatcher.validate_grammar_with_warnings(spec)
    return messages[0].strip() if failed else ""
