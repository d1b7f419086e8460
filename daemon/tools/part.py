"""Tools that come and go together: one entry of a declaration file, one plug-in."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from daemon.tools.kinds.declaration import Opened


@dataclass(frozen=True)
class Source:
    """Where a part comes from: `open` makes it anew, `fingerprint` tells whether there is anything new.

    `group` is the file it stands in: when that cannot be read, its parts stay as they are. `open` raises
    AutoGLMError saying what is wrong. `retry_seconds`: how long after a refusal it may succeed although the
    source is the same.
    """

    key: str
    group: str
    fingerprint: str
    open: Callable[[], Awaitable[Opened]]
    retry_seconds: float | None = None


@dataclass
class Part:
    """An opened source and in how many snapshots of the registry its tools are."""

    source: Source
    opened: Opened
    snapshots: int = 0
