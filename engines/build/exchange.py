"""Two folders trade places."""

import ctypes
import os
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def exchange(one: Path, other: Path) -> bool:
    """In one step, so that either name always has one of them.

    False, with nothing done, where the system cannot: Linux can on most file systems, but not on NFS.
    """
    try:
        rename = ctypes.CDLL(None).renameat2
    except AttributeError:
        return False
    first, second = os.fsencode(one), os.fsencode(other)
    return bool(rename(_AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE) == 0)
