"""Seconds of work that is enqueued and found done later, on a made-up clock."""

import pytest

from engines.serve.costs import StepCosts
from engines.serve.meter import Meter
from engines.serve.stats import Counters


@pytest.fixture
def now(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("engines.serve.meter.time.perf_counter", lambda: clock[0])
    return clock


def test_work_that_is_waited_for_takes_from_its_begin_to_its_end(now):
    counters = Counters()
    meter = Meter(StepCosts(), counters)
    meter.begin(tokens=10)
    now[0] += 2
    meter.end(meter.take())
    now[0] += 50  # nobody has anything to do
    meter.begin(rows=4)
    now[0] += 1
    meter.end(meter.take())
    assert (counters.prefill_seconds, counters.decode_seconds) == (2, 1)
    assert meter.take() is None


def test_work_behind_other_work_takes_from_that_ones_end(now):
    """Two decode steps of a second each, the second enqueued at once; then a prefill before a third."""
    costs, counters = StepCosts(), Counters()
    meter = Meter(costs, counters)
    meter.begin(rows=1)
    first = meter.take()
    meter.begin(rows=1)
    second = meter.take()
    now[0] += 1
    meter.end(first)
    meter.begin(tokens=30)
    meter.begin(tokens=20)
    meter.begin(rows=1)
    third = meter.take()
    now[0] += 1
    meter.end(second)
    assert counters.decode_seconds == 2
    now[0] += 6
    meter.end(third)
    assert (counters.prefill_seconds, counters.decode_seconds) == (5, 3)
    assert costs.prefill_budget(decoding=True) == 16  # 0.1 s per token is far more than the stall allows


def test_nothing_is_learned_from_what_cannot_be_told_apart():
    costs = StepCosts()
    assert costs.record(10, 4, 3.0) == (3.0, 0.0)
    assert costs.prefill_budget(decoding=True) == costs.chunk
