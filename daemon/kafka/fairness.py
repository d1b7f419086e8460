"""Who is next when more wait than fit: the highest priority, and tenants in turn within it."""

from collections import deque
from collections.abc import Mapping

from daemon.kafka.waiting import Waiting


class FairQueue:
    """Weighted round robin by stride scheduling (Waldspurger and Weihl 1995): each tenant has a pass that a
    turn moves on by 1/weight, and the lowest pass is next. Within a tenant first come, first served.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        """`weights`: turns relative to a tenant that is not named, which has 1."""
        self._weights = weights
        self._classes: dict[int, dict[str, deque[Waiting]]] = {}
        self._passes: dict[int, dict[str, float]] = {}
        self._now: dict[int, float] = {}  # the pass of the last turn, by priority

    def __bool__(self) -> bool:
        return bool(self._classes)

    def add(self, waiting: Waiting) -> None:
        priority, tenant = waiting.priority, waiting.tenant
        tenants = self._classes.setdefault(priority, {})
        if tenant not in tenants:
            tenants[tenant] = deque()
            passes = self._passes.setdefault(priority, {})
            # Who was away has saved nothing up: it comes in at the present pass.
            passes[tenant] = max(passes.get(tenant, 0.0), self._now.setdefault(priority, 0.0))
        tenants[tenant].append(waiting)

    def pop(self) -> Waiting:
        """Raises IndexError when nobody waits."""
        if not self._classes:
            raise IndexError("nobody waits")
        priority = max(self._classes)
        passes = self._passes[priority]
        tenant = min(self._classes[priority], key=passes.__getitem__)
        self._now[priority] = passes[tenant]
        passes[tenant] += 1.0 / self._weights.get(tenant, 1.0)
        waiting = self._classes[priority][tenant].popleft()
        self._tidy(priority, tenant)
        return waiting

    def remove(self, waiting: Waiting) -> None:
        """Raises KeyError or ValueError when it is not here."""
        self._classes[waiting.priority][waiting.tenant].remove(waiting)
        self._tidy(waiting.priority, waiting.tenant)

    def _tidy(self, priority: int, tenant: str) -> None:
        tenants = self._classes[priority]
        if not tenants[tenant]:
            del tenants[tenant]
        if not tenants:
            del self._classes[priority]
            # Nobody is owed anything any more; tenants and priorities are named by callers, without bound.
            del self._passes[priority]
            del self._now[priority]
        elif len(self._passes[priority]) > 2 * len(tenants) + 16:
            now, passes = self._now[priority], self._passes[priority]
            self._passes[priority] = {
                name: value for name, value in passes.items() if name in tenants or value > now
            }
