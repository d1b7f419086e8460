"""What the bundled model is measured on: held-out phrasings and hand-written requests."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from engines.demo.corpus import words
from engines.demo.dialogue import TOOL_NAMES, Author
from engines.demo.phrasing import FOLDER, SMALL_TALK
from engines.demo.results import KEY_VALUES

Set = Literal["held_out", "hand_written"]


@dataclass(frozen=True)
class Case:
    """A request, the call it needs (None: none), and what the tool then answers."""

    source: Set
    language: str
    text: str
    kind: str  # a tool's name, "greeting" or "out_of_scope"
    arguments: dict[str, Any]
    result: str
    key_values: tuple[str, ...]

    @property
    def tool(self) -> str | None:
        return self.kind if self.kind in TOOL_NAMES else None


def _with_result(author: Author, source: Set, text: str, kind: str, written: dict[str, str]) -> Case:
    """Draw a result for the call; its key values are what the final sentence must repeat."""
    if kind not in TOOL_NAMES:
        return Case(source, author.language, text, "greeting" if kind in SMALL_TALK else kind, {}, "", ())
    line, result = author.results.draw(kind, written)
    keys = tuple(str(result[key]) for key in KEY_VALUES[kind])
    arguments = {name: float(value) if name == "amount" else value for name, value in written.items()}
    return Case(source, author.language, text, kind, arguments, line, keys)


def held_out(language: str, copies: int = 2, seed: int = 5) -> list[Case]:
    """Every phrasing set aside, expanded and filled `copies` times with noise; fillers are held out too."""
    author = Author(language, "held_out", seed, words())
    cases = []
    for kind in (*TOOL_NAMES, *SMALL_TALK, "out_of_scope"):
        for stem, template in author.held(kind):
            for _ in range(copies):
                request = author.request(kind, template, priority=stem.partition(".")[2] or None)
                cases.append(_with_result(author, "held_out", request.text, kind, request.arguments))
    return cases


def hand_written(language: str, seed: int = 5) -> list[Case]:
    """The requests of evaluation/<language>.jsonl, which no template was made from."""
    author = Author(language, "held_out", seed, words())
    cases = []
    for line in (FOLDER / "evaluation" / f"{language}.jsonl").read_text("utf-8").splitlines():
        entry = json.loads(line)
        kind = entry["tool"] or {"greeting": "hello"}.get(entry["kind"], entry["kind"])
        written = {name: str(value) for name, value in entry.get("arguments", {}).items()}
        cases.append(_with_result(author, "hand_written", entry["user"], kind, written))
    return cases
