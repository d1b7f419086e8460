"""Where a setting was said: in a variable, a credential, or the settings file."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


class Origins:
    """`prefix` begins the names of the variables, and of those of `credentials` that are settings."""

    def __init__(self, prefix: str, credentials: Iterable[Path], file: Path | None) -> None:
        self._file = file
        self._said: list[dict[str, tuple[str, str]]] = [
            {name.upper(): (f"environment {name}", value) for name, value in os.environ.items()},
            {one.name.upper(): (str(one), one.read_text("utf-8").strip()) for one in credentials},
        ]
        self._prefix = prefix

    def of(self, loc: Sequence[str]) -> str:
        """The place of the setting at `loc`, and its name there unless the place is for it alone."""
        for said in self._said:
            for length in range(len(loc), 0, -1):
                rest = loc[length:]
                place, value = said.get(self._prefix + "__".join(loc[:length]).upper(), ("", ""))
                if place and (not rest or _holds(value, rest)):
                    return f"{place}: `{'.'.join(rest)}`" if rest else place
        return f"{self._file or 'settings'}: `{'.'.join(loc)}`"


def _holds(text: str, path: Sequence[str]) -> bool:
    """Whether the JSON `text` has something at `path`: other places may say other parts of the same table."""
    try:
        inside: Any = json.loads(text)
    except ValueError:
        return False
    for part in path:
        if isinstance(inside, list):
            inside = {str(number): item for number, item in enumerate(inside)}
        if not isinstance(inside, dict):
            return True  # what follows names a member of a union
        if part not in inside:
            return False
        inside = inside[part]
    return True
