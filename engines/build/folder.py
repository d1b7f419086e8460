"""Folders that appear whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engines.build.exchange import exchange
from engines.build.lock import locked
from engines.errors import BuildError


@contextmanager
def reserved(out: Path) -> Iterator[None]:
    """`out` for this build alone, others wait for it; what a killed build left behind is put right.

    Raises BuildError for what cannot be written, also in the block.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with locked(out.with_name(f".{out.name}.lock")):
            _tidy(out)
            yield
    except OSError as error:
        raise BuildError(f"{error.filename or out} cannot be written: {error.strerror or error}") from error


@contextmanager
def all_or_nothing(out: Path) -> Iterator[Path]:
    """A folder beside `out`, which is reserved, that takes its place when the block ends well."""
    work = _beside(out, "building")
    try:
        work.mkdir()
        yield work
        _sync(work)
        if not out.exists():
            work.rename(out)
        elif not exchange(work, out):
            out.rename(_beside(out, "replaced"))
            work.rename(out)
        _sync_one(out.parent)
    finally:
        _tidy(out)


def _tidy(out: Path) -> None:
    """Put back what was to be replaced if nothing has replaced it, and remove the rest."""
    work, old = _beside(out, "building"), _beside(out, "replaced")
    if old.exists() and not out.exists():
        old.rename(out)
    for left in (work, old):
        shutil.rmtree(left, ignore_errors=True)


def _sync(folder: Path) -> None:
    """What takes the place of another must be there after a power cut too."""
    for path in folder.rglob("*"):
        _sync_one(path)
    _sync_one(folder)


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(out: Path, what: str) -> Path:
    return out.with_name(f".{out.name}.{what}")
