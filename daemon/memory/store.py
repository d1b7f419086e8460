"""Where conversations are kept."""

from collections.abc import Callable
from typing import Protocol

from daemon.memory.place import Place

Change = Callable[[bytes | None], bytes]


class Store(Protocol):
    """One value per conversation. `read` and `update` may raise MemoryUnavailable."""

    async def read(self, place: Place) -> bytes | None: ...

    async def update(self, place: Place, change: Change) -> None:
        """Replace the value by `change` of it, with nobody else's update in between; `change` may be called
        several times. An empty value is none.
        """
        ...

    def forget(self, topic: str, partition: int) -> None:
        """Somebody else may have answered requests of that partition: drop what was not shared with them."""
        ...

    async def close(self) -> None: ...
