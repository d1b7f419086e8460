"""What TensorRT measured while it compiled, for the next time."""

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class Timings:
    """A file of them, which several builds may use at once and none depends on."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> bytes:
        """Nothing where there are none."""
        try:
            return self._file.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            log.warning("timings of earlier builds are not used: %s", error)
            return b""

    def keep(self, measured: Any) -> None:
        """In place of those there are."""
        part = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(measured)
            part.replace(self._file)
        except OSError as error:
            log.warning("what was measured is measured again in the next build: %s", error)
            with suppress(OSError):
                part.unlink()
