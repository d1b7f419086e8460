from importlib.metadata import version

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.ops.metrics import Metrics, percentile
from schemas.reply import Reply, Timings, ToolReport, Usage


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1.0))
def test_percentile_is_a_value_that_enough_values_do_not_exceed(values, share):
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9


def test_percentile_of_nothing_is_zero():
    assert percentile([], 0.5) == 0.0


def reply(status="ok", **changes):
    report = ToolReport(name="order_status", arguments={}, result={}, duration_ms=1.0, outcome="ok")
    usage = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=3)
    return Reply(
        id="r", status=status, tools=[report], usage=usage, timings=Timings(total_ms=20.0), **changes
    )


def test_a_snapshot_sums_what_was_counted():
    metrics = Metrics("host/1")
    metrics.count(reply())
    metrics.count(reply("expired"))
    snapshot = metrics.snapshot()
    assert snapshot.requests_total == {"ok": 1, "expired": 1}
    assert snapshot.tool_calls_total == {"ok": 2}
    assert (snapshot.prompt_tokens_total, snapshot.cached_tokens_total) == (20, 8)
    assert snapshot.latency_seconds == {"p50": pytest.approx(0.02), "p99": pytest.approx(0.02)}


def test_two_daemons_in_one_process_do_not_share_counters():
    first, second = Metrics("host/1"), Metrics("host/2")
    first.count(reply())
    assert second.snapshot().requests_total == {}


def test_metrics_tell_the_version():
    metrics = Metrics("host/1")
    labels = {"version": metrics.snapshot().version}
    assert labels["version"] == version("open-autoglm")
    assert metrics.registry.get_sample_value("autoglm_build_info", labels) == 1
