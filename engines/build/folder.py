"""Folders that appear whole or not at all."""

import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engines.errors import BuildError


@contextmanager
def all_or_nothing(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place when the block ends well.

    It is locked while it is written: what a killed process left behind has no lock and is removed here.
    """
    work: Path | None = None
    lock = -1
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _sweep(out)
        work = Path(tempfile.mkdtemp(prefix=_prefix(out), dir=out.parent))
        lock = _locked(work)
        yield work
        work.chmod(0o755)
        if out.exists():
            old = work.with_name(work.name + ".old")
            out.rename(old)
            work.rename(out)
            shutil.rmtree(old, ignore_errors=True)
        else:
            work.rename(out)
    except OSError as error:
        raise BuildError(f"{error.filename or out} cannot be written: {error.strerror or error}") from error
    finally:
        if work:
            shutil.rmtree(work, ignore_errors=True)
        if lock >= 0:
            os.close(lock)


def _prefix(out: Path) -> str:
    return f".{out.name}.building-"


def _sweep(out: Path) -> None:
    """Remove folders of builds of `out` that were killed."""
    for left in out.parent.glob(glob.escape(_prefix(out)) + "*"):
        try:
            lock = _locked(left)
        except OSError:
            continue  # somebody works in it, or it is no folder
        shutil.rmtree(left, ignore_errors=True)
        os.close(lock)


def _locked(folder: Path) -> int:
    """Descriptor of the folder with its lock; raises OSError where another process holds that."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
