"""Phrasing files: a template a line, with {slots}, [alternatives|of|words], <names>; split by hash for good.

A <name> stands for a line of the phrasing file of that name, from the same part, or for one of the words that
words/<language>.toml lists under it.
"""

import hashlib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

FOLDER = Path(__file__).parent
LANGUAGES = ("en", "zh")
SMALL_TALK = ("hello", "thanks", "bye", "identity")
Part = Literal["train", "held_out"]

_ALTERNATIVES = re.compile(r"\[([^\[\]]*)\]")  # the innermost
_BRACKET = re.compile(r"[\[\]]")
_NAME = re.compile(r"<([a-z_.]+)>")
SLOT = re.compile(r"\{(\w+)\}")
_DEEPEST = 16  # names in names


def held_out(line: str) -> bool:
    """True for a fixed fifth of all lines: it depends on the line alone, so files may grow."""
    return hashlib.sha256(line.encode()).digest()[0] % 5 == 0


def expand(template: str, rng: Random) -> str:
    """Choose one of each [a|b|c], from the inside out; slots stay. Raises ValueError for a bracket alone."""
    text = template
    while _BRACKET.search(text):
        before, text = text, _ALTERNATIVES.sub(lambda match: rng.choice(match[1].split("|")), text)
        if text == before:
            raise ValueError(f"a bracket without its other half in {template!r}")
    return re.sub(r" +(?=[,;:.!?])|(?<= ) +", "", text).strip()


def fill(template: str, values: dict[str, str]) -> str:
    """Put the values into their slots. Raises KeyError naming a slot without a value."""
    return SLOT.sub(lambda match: values[match[1]], template)


def read_lines(path: Path) -> list[str]:
    """Templates of a file, in order, each once, without comments and blank lines."""
    lines = (line.strip() for line in path.read_text("utf-8").splitlines())
    return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


@dataclass(frozen=True)
class Phrasings:
    """One language: templates by file stem, words by name, and reply sentences by tool or kind."""

    language: str
    lines: dict[str, list[str]]
    words: dict[str, str]
    replies: dict[str, Any]

    def expand(self, template: str, rng: Random) -> str:
        """Put a line or a word for each <name>, then choose the alternatives; slots stay.

        Raises KeyError naming a <name> that is neither a phrasing file nor a word, ValueError for one that
        stands for itself or a bracket alone.
        """

        def named(match: re.Match[str]) -> str:
            lines = self.lines.get(match[1])
            return rng.choice(lines) if lines else f"[{self.words[match[1]]}]"

        text = template
        for _ in range(_DEEPEST):
            if not _NAME.search(text):
                return expand(text, rng)
            text = _NAME.sub(named, text)
        raise ValueError(f"a <name> in {template!r} stands for itself")

    @classmethod
    def load(cls, language: str, part: Part, folder: Path = FOLDER) -> "Phrasings":
        """Read `phrasings/<language>/*.txt` and `replies/<language>.toml`, keeping one part of the lines."""
        wanted = part == "held_out"
        lines = {
            path.stem: [line for line in read_lines(path) if held_out(line) == wanted]
            for path in sorted((folder / "phrasings" / language).glob("*.txt"))
        }
        words, replies = (
            tomllib.loads((folder / kind / f"{language}.toml").read_text("utf-8"))
            for kind in ("words", "replies")
        )
        return cls(language, lines, words, replies)
