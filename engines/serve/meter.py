"""How long the runtime's work takes, whether its calls wait for it or not."""

import time
from typing import NamedTuple

from engines.serve.costs import StepCosts
from engines.serve.stats import Counters


class Work(NamedTuple):
    """Enqueued from time.perf_counter() `began` on: a prefill of `tokens`, then a decode step of `rows`."""

    began: float
    tokens: int
    rows: int


class Meter:
    """Tells costs and counters. Work is done one after the other, so what was enqueued while other work ran
    takes the time from that one's end to its own."""

    def __init__(self, costs: StepCosts, counters: Counters) -> None:
        self._costs, self._counters = costs, counters
        self._work: Work | None = None
        self._ended = 0.0

    def begin(self, tokens: int = 0, rows: int = 0) -> None:
        """So much is about to be enqueued."""
        began, before, _ = self._work or Work(time.perf_counter(), 0, 0)
        self._work = Work(began, before + tokens, rows)

    def take(self) -> Work | None:
        """What was enqueued since it was last taken."""
        work, self._work = self._work, None
        return work

    def end(self, work: Work | None) -> None:
        """`work` is found to be done."""
        now = time.perf_counter()
        if work is not None:
            prefill, decode = self._costs.record(work.tokens, work.rows, now - max(work.began, self._ended))
            self._counters.prefill_seconds += prefill
            self._counters.decode_seconds += decode
        self._ended = now
