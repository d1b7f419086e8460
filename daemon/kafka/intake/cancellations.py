"""Which requests are not wanted any more, also those that have not come yet."""

import time
from collections import OrderedDict
from dataclasses import dataclass, replace

from daemon.kafka.intake.waiting import Waiting

_MOST = 10_000
Name = tuple[str, str, bytes | None]


@dataclass(frozen=True, slots=True)
class Cancellation:
    """`key`: only a request of that key is meant; None: of any. `address`: only that record, if set. `until`:
    none of after that time, in milliseconds since 1970. Whoever hears a cancel late does not know whether it
    found its request, and a later one of the same id is a new one.
    """

    id: str | None = None
    correlation_id: str | None = None
    key: bytes | None = None
    address: str | None = None
    until: int | None = None

    def means(self, waiting: Waiting) -> bool:
        record = waiting.record
        return (
            self.id in (None, waiting.id or waiting.correlation_id or record.address)
            and self.correlation_id in (None, waiting.correlation_id)
            and self.key in (None, record.key)
            and self.address in (None, record.address)
            and (self.until is None or record.timestamp <= self.until)
        )

    @property
    def name(self) -> Name:
        if self.id is not None:
            return ("id", self.id, self.key)
        return ("correlation-id", self.correlation_id or "", self.key)


class Cancellations:
    """Remembered for a bounded time, and at most 10,000: a cancel may overtake its request.

    One that has found its request means only that record from then on: it is cancelled again when it is
    delivered again, and the same id in a new record is a new request.
    """

    def __init__(self, keep_seconds: float) -> None:
        self._keep_seconds = keep_seconds
        self._kept: OrderedDict[Name, tuple[float, Cancellation]] = OrderedDict()

    def keep(self, cancellation: Cancellation, found: Waiting | None = None) -> None:
        if found is not None:
            cancellation = replace(cancellation, address=found.record.address)
        self._kept.pop(cancellation.name, None)
        self._kept[cancellation.name] = (time.monotonic() + self._keep_seconds, cancellation)
        self._forget()

    def claim(self, waiting: Waiting) -> bool:
        """Whether a remembered cancel means this request."""
        if not self._kept:
            return False
        self._forget()
        id_ = waiting.id or waiting.correlation_id or waiting.record.address
        for key in (waiting.record.key, None):
            for name in (("id", id_, key), ("correlation-id", waiting.correlation_id or "", key)):
                _, kept = self._kept.get(name, (0.0, None))
                if kept is not None and kept.means(waiting):
                    self.keep(kept, waiting)
                    return True
        return False

    def _forget(self) -> None:
        now = time.monotonic()
        while self._kept and (len(self._kept) > _MOST or next(iter(self._kept.values()))[0] <= now):
            self._kept.popitem(last=False)
