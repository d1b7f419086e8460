"""Which record may run next: one per key at a time, in the order they came."""

from collections import deque

from daemon.kafka.record import Incoming


class KeyOrder:
    """Records waiting to run. Records without a key, or all when `unordered`, wait for nobody."""

    def __init__(self, *, unordered: bool) -> None:
        self._unordered = unordered
        self._runnable: deque[Incoming] = deque()
        self._behind: dict[bytes, deque[Incoming]] = {}  # key in work → what waits for it
        self.waiting = 0

    @property
    def runnable(self) -> bool:
        return bool(self._runnable)

    def add(self, record: Incoming) -> None:
        self.waiting += 1
        if record.key is None or self._unordered:
            self._runnable.append(record)
        elif record.key in self._behind:
            self._behind[record.key].append(record)
        else:
            self._behind[record.key] = deque()
            self._runnable.append(record)

    def next(self) -> Incoming:
        """Raises IndexError when nothing is runnable."""
        record = self._runnable.popleft()
        self.waiting -= 1
        return record

    def done(self, record: Incoming) -> None:
        """`record`, which `next` gave, ended: its key's next one may run."""
        if record.key is None or self._unordered:
            return
        behind = self._behind[record.key]
        if behind:
            self._runnable.append(behind.popleft())
        else:
            del self._behind[record.key]
