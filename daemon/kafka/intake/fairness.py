"""Who is next when more wait than fit: the highest priority, and tenants in turn within it."""

import math
from collections import deque
from collections.abc import Mapping

from daemon.kafka.intake.waiting import Waiting


class FairQueue:
    """Weighted round robin by stride scheduling (Waldspurger and Weihl 1995): each tenant has a pass that a
    turn moves on by 1/weight, and the lowest pass is next. Within a tenant first come, first served.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        """`weights`: turns relative to a tenant that is not named, which has 1."""
        self._weights = weights
        self._classes: dict[int, _Class] = {}

    def __bool__(self) -> bool:
        return bool(self._classes)

    @property
    def priority(self) -> float:
        """The highest of those who wait; -inf when nobody does."""
        return max(self._classes, default=-math.inf)

    def add(self, waiting: Waiting) -> None:
        self._classes.setdefault(waiting.priority, _Class()).add(waiting, self._weight(waiting.tenant))

    def pop(self) -> Waiting:
        """Raises IndexError when nobody waits."""
        if not self._classes:
            raise IndexError("nobody waits")
        priority = max(self._classes)
        of_class = self._classes[priority]
        tenant = of_class.next()
        waiting = of_class.tenants[tenant][0]
        of_class.turn(tenant, self._weight(tenant))
        self.remove(waiting)
        return waiting

    def remove(self, waiting: Waiting) -> None:
        """Raises KeyError or ValueError when it is not here."""
        of_class = self._classes[waiting.priority]
        of_class.take(waiting, self._weight(waiting.tenant))
        if not of_class.tenants:
            # Nobody is owed anything any more; tenants and priorities are named by callers, without bound.
            del self._classes[waiting.priority]

    def _weight(self, tenant: str) -> float:
        return self._weights.get(tenant, 1.0)


class _Class:
    """The tenants of one priority that wait.

    `now`, where those who come begin, moves on with each turn by what it would bring a tenant if all took
    turns: so who sends a lot is passed by newcomers for a round, not for as long as there are any.
    """

    def __init__(self) -> None:
        self.tenants: dict[str, deque[Waiting]] = {}
        self._passes: dict[str, float] = {}  # of those who wait, and of those whose last turn is still ahead
        self._now = 0.0
        self._shares = 0.0  # the weights of those who wait
        self._tidy_at = 16

    def add(self, waiting: Waiting, weight: float) -> None:
        tenant = waiting.tenant
        if tenant not in self.tenants:
            self.tenants[tenant] = deque()
            self._shares += weight
            # Who was away has saved nothing up: it comes in at the present pass.
            self._passes[tenant] = max(self._passes.get(tenant, 0.0), self._now)
        self.tenants[tenant].append(waiting)

    def next(self) -> str:
        return min(self.tenants, key=self._passes.__getitem__)

    def turn(self, tenant: str, weight: float) -> None:
        self._passes[tenant] += 1.0 / weight
        self._now += 1.0 / self._shares

    def take(self, waiting: Waiting, weight: float) -> None:
        tenant = waiting.tenant
        self.tenants[tenant].remove(waiting)
        if not self.tenants[tenant]:
            del self.tenants[tenant]
            self._shares -= weight
        if len(self._passes) > self._tidy_at:
            kept = {t: at for t, at in self._passes.items() if t in self.tenants or at > self._now}
            self._passes, self._tidy_at = kept, 2 * len(kept) + 16
