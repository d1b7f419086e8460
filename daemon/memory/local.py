"""Conversations in this process: bounded, and gone with it or with the partition."""

import time
from collections import OrderedDict
from dataclasses import dataclass

from daemon.memory.place import Place
from daemon.memory.store import Change

_ENTRY_BYTES = 500  # of an entry beside its value, roughly


@dataclass(frozen=True, slots=True)
class _Entry:
    value: bytes
    written: float
    home: tuple[str, int]


class LocalStore:
    """See Store. At most `most` conversations and `most_bytes` in all; the least recently used go first.

    One that nobody wrote to for `keep_seconds` is gone.
    """

    def __init__(self, most: int, most_bytes: int, keep_seconds: float) -> None:
        self._most, self._most_bytes, self._keep = most, most_bytes, keep_seconds
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self.bytes = 0

    @property
    def conversations(self) -> int:
        return len(self._entries)

    async def read(self, place: Place) -> bytes | None:
        entry = self._entries.get(place.conversation)
        if entry is None:
            return None
        if entry.written + self._keep <= time.monotonic():
            self._drop(place.conversation)
            return None
        self._entries.move_to_end(place.conversation)
        return entry.value

    async def update(self, place: Place, change: Change) -> None:
        value = change(await self.read(place))
        self._drop(place.conversation)
        if value:
            home = (place.topic, place.partition)
            self._entries[place.conversation] = _Entry(value, time.monotonic(), home)
            self.bytes += len(value) + _ENTRY_BYTES
        while len(self._entries) > self._most or self.bytes > self._most_bytes:
            self._drop(next(iter(self._entries)))

    def forget(self, topic: str, partition: int) -> None:
        gone = [name for name, entry in self._entries.items() if entry.home == (topic, partition)]
        for conversation in gone:
            self._drop(conversation)

    async def close(self) -> None:
        self._entries.clear()
        self.bytes = 0

    def _drop(self, conversation: str) -> None:
        entry = self._entries.pop(conversation, None)
        if entry is not None:
            self.bytes -= len(entry.value) + _ENTRY_BYTES
