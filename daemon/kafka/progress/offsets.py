"""Which offsets of a partition are done, and how that fits into a commit's metadata string.

Requests finish out of order. What is committed is the first offset that is not done; the done ones
beyond it travel in the metadata, so that a restart hands out neither a lost nor a finished record.
"""

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass

from daemon.kafka.progress.offset_map import MAX_SPAN, NO_COUNTS, Counts, Run, decode, encode


@dataclass(frozen=True, slots=True)
class Mark:
    """What is committed for a partition: the next offset to read and the metadata string."""

    offset: int
    metadata: str = ""


class Progress:
    """The state of one partition's records. Not thread-safe; every call is O(1) but `mark`."""

    def __init__(self, offset: int, done: list[Run] | None = None) -> None:
        """`offset`: where reading starts. `done`: runs beyond it that earlier owners finished."""
        self._next = offset
        self._restored = list(done or [])
        self._taken: deque[int] = deque()  # in order of delivery, the first one unfinished
        self._finished: set[int] = set()

    @classmethod
    def restore(cls, mark: Mark) -> tuple["Progress", Counts]:
        """The state that `mark` describes and the counts of the opening that wrote it.

        Metadata that is foreign, corrupt or of another offset counts as empty: then records may be
        handed out again, none is lost.
        """
        counts, runs = decode(mark.offset, mark.metadata)
        return cls(mark.offset, runs), counts

    @property
    def position(self) -> int:
        """The offset after the last taken one."""
        return self._next

    @property
    def done_up_to(self) -> int:
        """Every record below this offset is done."""
        return self._taken[0] if self._taken else self._next

    @property
    def unfinished(self) -> int:
        """Records taken and not finished."""
        return len(self._taken) - len(self._finished)

    def has_room(self, offset: int) -> bool:
        """Whether the map still fits the metadata when `offset` is taken. An empty state always has."""
        return not self._taken or offset - self._taken[0] < MAX_SPAN

    def take(self, offset: int) -> bool:
        """Register a delivered record; False when it is already done or was taken before."""
        if offset < self._next:
            return False
        self._next = offset + 1
        done = self._was_done(offset)
        if done and not self._taken:
            return False
        self._taken.append(offset)
        if done:
            self._finished.add(offset)
        return not done

    def finish(self, offset: int) -> None:
        """Record that `offset` needs no more work. Raises KeyError for one that is not in work."""
        if offset in self._finished or offset >= self._next or not self._taken or offset < self._taken[0]:
            raise KeyError(offset)
        self._finished.add(offset)
        while self._taken and self._taken[0] in self._finished:
            self._finished.remove(self._taken.popleft())

    def mark(self, counts: Counts = NO_COUNTS) -> Mark:
        """What to commit now; `counts` are carried in the metadata (see Lane)."""
        runs = self._runs()
        offset = self._taken[0] if self._taken else self._next
        if runs and runs[0][0] <= offset:
            offset = runs.pop(0)[1]
        return Mark(offset, encode(offset, counts, runs))

    def _was_done(self, offset: int) -> bool:
        index = bisect_right(self._restored, offset, key=lambda run: run[0]) - 1
        return index >= 0 and offset < self._restored[index][1]

    def _runs(self) -> list[Run]:
        """Done runs. Offsets between neighbours of a run that were never delivered do not exist."""
        runs: list[Run] = []
        start = None
        for offset in self._taken:
            if offset in self._finished:
                start = offset if start is None else start
                end = offset + 1
            elif start is not None:
                runs.append((start, end))
                start = None
        if start is not None:
            runs.append((start, end))
        for first, last in self._restored:
            if last > self._next:
                ahead = max(first, self._next)
                runs.append((runs.pop()[0] if runs and runs[-1][1] == ahead else ahead, last))
        return runs
