"""Which record may run next: one per key at a time, in the order they came."""

from collections import deque
from collections.abc import Iterator, Mapping

from daemon.kafka.intake.fairness import FairQueue
from daemon.kafka.intake.waiting import Waiting


class KeyOrder:
    """Records waiting to run: in turn within their `order`, fairly among those whose turn it is.

    A record holds its turn from when it may run until `done`, also while it rests before another try.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._runnable = FairQueue(weights or {})
        self._behind: dict[bytes, deque[Waiting]] = {}  # order whose turn is held → what waits for it
        self._waiting: dict[Waiting, None] = {}
        self._resting: set[Waiting] = set()

    def __iter__(self) -> Iterator[Waiting]:
        """All that wait, in the order they came; a copy."""
        return iter(list(self._waiting))

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def resting(self) -> int:
        """How many of those waiting wait for another try."""
        return len(self._resting)

    @property
    def runnable(self) -> bool:
        return bool(self._runnable)

    @property
    def priority(self) -> float:
        """Of what `next` would give; -inf when nothing is runnable."""
        return self._runnable.priority

    def add(self, waiting: Waiting) -> None:
        self._waiting[waiting] = None
        order = waiting.order
        if order is not None and order in self._behind:
            self._behind[order].append(waiting)
            return
        if order is not None:
            self._behind[order] = deque()
        waiting.holds_turn = True
        self._runnable.add(waiting)

    def next(self) -> Waiting:
        """Raises IndexError when nothing is runnable."""
        waiting = self._runnable.pop()
        del self._waiting[waiting]
        return waiting

    def rest(self, waiting: Waiting) -> None:
        """`waiting`, which `next` gave, is to run again, but not before `again`."""
        self._waiting[waiting] = None
        self._resting.add(waiting)

    def again(self, waiting: Waiting) -> None:
        """`waiting`, which rests, may run. Harmless when it does not rest any more."""
        if waiting in self._resting:
            self._resting.remove(waiting)
            self._runnable.add(waiting)

    def withdraw(self, waiting: Waiting) -> None:
        """Take it out, wherever it waits; the caller ends it at once and says so with `done`."""
        del self._waiting[waiting]
        if waiting in self._resting:
            self._resting.remove(waiting)
        elif waiting.holds_turn:
            self._runnable.remove(waiting)
        elif waiting.order is not None:
            self._behind[waiting.order].remove(waiting)

    def done(self, waiting: Waiting) -> None:
        """It ended: if the turn was its, the next one may run."""
        if waiting.order is None or not waiting.holds_turn:
            return
        waiting.holds_turn = False
        behind = self._behind[waiting.order]
        if behind:
            following = behind.popleft()
            following.holds_turn = True
            self._runnable.add(following)
        else:
            del self._behind[waiting.order]
