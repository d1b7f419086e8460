"""Words of a phrasing replaced by others of the same meaning, so that no request depends on a single one."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Self

FOLDER = Path(__file__).parent / "words"

_SLOT = re.compile(r"(\{\w+\})")
_LATIN = re.compile(r"[A-Za-z']+|[^A-Za-z']+")


class Synonyms:
    """A table of words or short phrases and what may stand for them; the longest that fits is replaced."""

    def __init__(self, table: Mapping[str, Sequence[str]], spaced: bool) -> None:
        """`spaced`: whether spaces part the words of the language; its keys are lower case then."""
        self._table, self._spaced = table, spaced
        self._longest = max((len(self._pieces(key)) for key in table), default=0)

    @classmethod
    def load(cls, language: str, folder: Path = FOLDER) -> Self:
        """Read `<language>.synonyms.txt`: lines `word: this|that`, `#` for comments."""
        lines = (folder / f"{language}.synonyms.txt").read_text("utf-8").splitlines()
        pairs = (line.split(": ", 1) for line in lines if line and not line.startswith("#"))
        return cls({key: others.split("|") for key, others in pairs}, spaced=language == "en")

    def vary(self, text: str, rng: Random, share: float) -> str:
        """`text` with this share of the words that have synonyms replaced; slots stay."""
        return "".join(
            part if part.startswith("{") else self._varied(part, rng, share) for part in _SLOT.split(text)
        )

    def _pieces(self, text: str) -> list[str]:
        return _LATIN.findall(text) if self._spaced else list(text)

    def _varied(self, text: str, rng: Random, share: float) -> str:
        pieces, varied, at = self._pieces(text), "", 0
        while at < len(pieces):
            for count in range(min(self._longest, len(pieces) - at), 0, -1):
                found = "".join(pieces[at : at + count])
                others = self._table.get(found.lower())
                if others:
                    varied += _like(found, rng.choice(others)) if rng.random() < share else found
                    break
            else:
                count, varied = 1, varied + pieces[at]
            at += count
        return varied


def _like(original: str, other: str) -> str:
    """`other` with a capital where `original` has one."""
    return other[0].upper() + other[1:] if original[0].isupper() and original[0].isascii() else other
