"""Tools that come and go together: one entry of a declaration file, one plug-in."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from daemon.tools.kinds.declaration import Opened


@dataclass(frozen=True)
class Source:
    """Where a part comes from: `open` makes it anew, `fingerprint` tells whether there is anything new.

    `group` is the file it stands in: when that, or its folder, cannot be read, its parts stay as they are.
    `open` raises AutoGLMError saying what is wrong. `retry_seconds`: how long after a refusal it may succeed
    although the source is the same.
    """

    key: str
    group: str
    fingerprint: str
    open: Callable[[], Awaitable[Opened]]
    retry_seconds: float | None = None

    def within(self, places: Collection[str]) -> bool:
        """Whether it stands in one of these files or folders."""
        return self.group in places or str(Path(self.group).parent) in places


@dataclass
class Part:
    """An opened source and in how many snapshots of the registry its tools are."""

    source: Source
    opened: Opened
    snapshots: int = 0
