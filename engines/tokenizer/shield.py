"""Keeps text that comes from outside from turning into special tokens.

A chat template mixes its own special tokens (`<|user|>`) with the caller's text, and the result is one
string. Before rendering, every outside string gets a break after each character that could begin the literal
of a special token and before each that could end it. So in the rendered string no literal can begin or end
inside outside text, not even one that spans the border to the template's own text; only its middle can come
from outside, as in `<|{{ message.role }}|>`, which templates need. After the rendered string was split at the
literals that are left, which are the template's own, `Shield.lower` takes the breaks out again.

A break is two private-use characters, sentinel and gap, and a sentinel of the outside text is written twice:
every sentinel begins a pair, so breaks that stand side by side (`<>`, `[]`) cannot be misread.
"""

import re
from collections.abc import Collection
from typing import Any

SENTINEL, GAP = "\U000f7a3c", "\U000f7a3d"
_BREAK = SENTINEL + GAP
_PAIR = re.compile(f"{SENTINEL}(?:{GAP}|({SENTINEL}))")


class Shield:
    """For one set of literals, such as `<|user|>` and `[gMASK]`."""

    def __init__(self, literals: Collection[str]) -> None:
        first = {literal[0] for literal in literals}
        # A literal is already broken behind its first character; letters as last characters would
        # put a break into every other word.
        last = {literal[-1] for literal in literals if not literal[-1].isalnum()} - first
        self._first = first
        self._edge = re.compile("[" + "".join(map(re.escape, sorted(first | last | {SENTINEL}))) + "]")
        self._splitter = re.compile(
            "(" + "|".join(map(re.escape, sorted(literals, key=len, reverse=True))) + ")"
        )
        self._has_literals = bool(literals)

    def raise_(self, value: Any) -> Any:
        """`value` (JSON-like) with every string and every key shielded."""
        if isinstance(value, str):
            return self._edge.sub(self._mark, value)
        if isinstance(value, dict):
            return {self.raise_(key): self.raise_(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.raise_(item) for item in value]
        return value

    def split(self, rendered: str) -> list[tuple[bool, str]]:
        """Pieces of a rendered string as (is a literal, text), outside text without its breaks."""
        if not self._has_literals:
            return [(False, self.lower(rendered))]
        parts = self._splitter.split(rendered)
        # re.split puts the separators, which are our literals, at the odd places.
        return [
            (index % 2 == 1, part if index % 2 else self.lower(part))
            for index, part in enumerate(parts)
            if part
        ]

    @staticmethod
    def lower(text: str) -> str:
        return _PAIR.sub(r"\1", text) if SENTINEL in text else text

    def _mark(self, match: re.Match[str]) -> str:
        character = match[0]
        if character == SENTINEL:
            return SENTINEL * 2
        return character + _BREAK if character in self._first else _BREAK + character
