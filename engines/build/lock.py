"""One process after the other."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the lock `file`, which is there only meanwhile; wait for whoever holds it, saying so.

    A process that dies lets go of it. Raises OSError where the file cannot be made or locked.
    """
    with _acquired(file):
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def _acquired(file: Path) -> BinaryIO:
    while True:
        held = file.open("ab")
        try:
            _lock(held, file)
            if _is(held, file):
                return held
        except BaseException:
            held.close()
            raise
        held.close()  # who had it before took the file away


def _lock(held: BinaryIO, file: Path) -> None:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.warning("another process holds %s: waiting for it", file)
        fcntl.flock(held, fcntl.LOCK_EX)


def _is(held: BinaryIO, file: Path) -> bool:
    """Whether this still is the file of that name."""
    try:
        return os.path.samestat(os.fstat(held.fileno()), file.stat())
    except FileNotFoundError:
        return False
