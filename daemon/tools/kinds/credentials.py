"""Secrets by name: files in the directory that systemd hands to the service."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemon.tools.kinds.template import Template, Tree, escape

# systemd's name for a file of the folder that the unit names by `LoadCredential=autoglm:FOLDER`.
_OF_FOLDER = "autoglm_"
_REFERENCE = re.compile(r"\{credential:([A-Za-z0-9_.-]+)\}")


@dataclass
class Credentials:
    """`{credential:NAME}` in a declaration stands for the content of NAME, else autoglm_NAME, in `directory`.

    `directory` is `$CREDENTIALS_DIRECTORY` when left out, which systemd sets for `LoadCredential=`.
    """

    directory: Path | None = None
    used: set[str] = field(default_factory=set)

    def reveal(self, text: str) -> str:
        """`text` with its references replaced. Raises ValueError for one that is not there."""
        return _REFERENCE.sub(lambda match: self._read(match[1]), text)

    def template(self, text: str) -> Template:
        """`text` parsed; a secret is literal text in it, whatever braces it has. Raises ValueError."""
        return Template.parse(_REFERENCE.sub(lambda match: escape(self._read(match[1])), text))

    def tree(self, data: Any) -> Tree:
        """The same for JSON data."""
        if isinstance(data, str):
            return self.template(data)
        if isinstance(data, dict):
            return {key: self.tree(item) for key, item in data.items()}
        if isinstance(data, list):
            return [self.tree(item) for item in data]
        if data is None or isinstance(data, int | float):
            return data
        raise ValueError(f"{data!r} is no JSON value; write it as a text")

    def hide(self, text: str) -> str:
        """`text` without the secrets that were revealed: error messages of libraries like to repeat them."""
        for secret in self.used:
            text = text.replace(secret, "***")
        return text

    def _read(self, name: str) -> str:
        directory = self.directory
        if directory is None and (given := os.environ.get("CREDENTIALS_DIRECTORY")):
            directory = Path(given)
        remedy = (
            f"add `LoadCredential={name}:FILE` to the unit, or the file {name} to the folder that it names"
        )
        if directory is None:
            raise ValueError(
                f"credential {name!r} is asked for, but there is no $CREDENTIALS_DIRECTORY; {remedy}"
            )
        places = [directory / name, directory / f"{_OF_FOLDER}{name}"]
        try:
            secret = next((place for place in places if place.exists()), places[0]).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"credential {name!r} cannot be read: {error}; {remedy}") from None
        if len(secret) > 3:  # hiding every `a` would make messages unreadable
            self.used.add(secret)
        return secret


def refers(text: str) -> bool:
    """Whether `text` asks for a credential."""
    return _REFERENCE.search(text) is not None
