"""Phrasing files: one template a line, with {slots} and [alternatives|of|words]; split for good by hash."""

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

_ALTERNATIVES = re.compile(r"\[([^\[\]]*)\]")
SLOT = re.compile(r"\{(\w+)\}")


def held_out(line: str) -> bool:
    """True for a fixed fifth of all lines: it depends on the line alone, so files may grow."""
    return hashlib.sha256(line.encode()).digest()[0] % 5 == 0


def expand(template: str, rng: Random) -> str:
    """Choose one of each [a|b|c]; slots stay."""
    chosen = _ALTERNATIVES.sub(lambda match: rng.choice(match[1].split("|")), template)
    return re.sub(r" {2,}", " ", chosen).strip()


def fill(template: str, values: dict[str, str]) -> str:
    """Put the values into their slots. Raises KeyError naming a slot without a value."""
    return SLOT.sub(lambda match: values[match[1]], template)


def read_lines(path: Path) -> list[str]:
    """Templates of a file, in order, each once, without comments and blank lines."""
    lines = (line.strip() for line in path.read_text("utf-8").splitlines())
    return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


@dataclass(frozen=True)
class Phrasings:
    """What one language offers: templates by file stem, and reply sentences by tool or kind."""

    language: str
    lines: dict[str, list[str]]
    replies: dict[str, Any]

    @classmethod
    def load(cls, language: str, part: Part, folder: Path = FOLDER) -> "Phrasings":
        """Read `phrasings/<language>/*.txt` and `replies/<language>.toml`, keeping one part of the lines."""
        wanted = part == "held_out"
        lines = {
            path.stem: [line for line in read_lines(path) if held_out(line) == wanted]
            for path in sorted((folder / "phrasings" / language).glob("*.txt"))
        }
        replies = tomllib.loads((folder / "replies" / f"{language}.toml").read_text("utf-8"))
        return cls(language, lines, replies)
