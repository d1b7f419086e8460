"""What the last run worked out, kept for the next one."""

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class Keepsake:
    """A file that several processes may use at once and none depends on: trouble with it is logged alone."""

    def __init__(self, file: Path, what: str) -> None:
        """`what` it holds, in the plural."""
        self._file, self._what = file, what

    def read(self) -> bytes:
        """Nothing where there is nothing."""
        try:
            return self._file.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            log.warning("%s of the last time are not used: %s", self._what, error)
            return b""

    def keep(self, content: Any) -> None:
        """Bytes in place of those there are."""
        part = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(content)
            part.replace(self._file)
        except OSError as error:
            log.warning("%s are not kept for the next time: %s", self._what, error)
            with suppress(OSError):
                part.unlink()
