"""Counters, gauges and latencies of one daemon: read by Prometheus and by the metrics topic."""

import math
import time
from collections import deque
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from engines.serve.stats import EngineStats
from schemas.event import MetricsSnapshot
from schemas.reply import Reply

RECENT_REPLIES = 1_024
LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Metrics:
    """Holds its own registry, so that two daemons in one process (as in tests) do not share counters."""

    def __init__(self, instance: str, engine: str) -> None:
        self.instance, self.engine = instance, engine
        self.registry = CollectorRegistry()
        self._started = time.monotonic()
        self._recent: deque[float] = deque(maxlen=RECENT_REPLIES)
        registry = self.registry
        self.requests = Counter("autoglm_requests_total", "Replies", ["status"], registry=registry)
        self.tools = Counter(
            "autoglm_tool_calls_total", "Executed tool calls", ["tool", "outcome"], registry=registry
        )
        self.memory_failures = Counter(
            "autoglm_memory_failures_total",
            "Times the conversation memory did not answer",
            ["operation"],
            registry=registry,
        )
        self.tokens = Counter("autoglm_tokens_total", "Tokens", ["kind"], registry=registry)
        self.latency = Histogram(
            "autoglm_request_duration_seconds", "Arrival to reply", buckets=LATENCY_BUCKETS, registry=registry
        )
        self.first_token = Histogram(
            "autoglm_first_token_seconds",
            "Arrival to first token",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "autoglm_requests_in_flight", "Requests taken in, not replied to", registry=registry
        )
        self.lag = Gauge(
            "autoglm_lag_records", "Records of assigned partitions not taken in", registry=registry
        )
        self.rows = Gauge("autoglm_active_rows", "Rows decoded together now", registry=registry)
        self.queued = Gauge("autoglm_queued_prompts", "Prompts waiting for a slot", registry=registry)
        self.cached = Gauge(
            "autoglm_cached_slots", "Idle slots that hold a reusable prefix", registry=registry
        )

    def count(self, reply: Reply) -> None:
        """Account for one terminal reply."""
        self.requests.labels(reply.status).inc()
        for report in reply.tools:
            self.tools.labels(report.name, report.outcome).inc()
        self.tokens.labels("prompt").inc(reply.usage.prompt_tokens)
        self.tokens.labels("cached").inc(reply.usage.cached_tokens)
        self.tokens.labels("completion").inc(reply.usage.completion_tokens)
        self.latency.observe(reply.timings.total_ms / 1e3)
        self._recent.append(reply.timings.total_ms / 1e3)
        if reply.timings.first_token_ms is not None:
            self.first_token.observe(reply.timings.first_token_ms / 1e3)

    def count_memory_failure(self, operation: str) -> None:
        """The conversation memory did not answer to a `read` or `write`."""
        self.memory_failures.labels(operation).inc()

    def observe(self, stats: EngineStats, lag_records: int) -> None:
        """Set the gauges from the engine's and the consumer's state now."""
        self.rows.set(stats.active_rows)
        self.queued.set(stats.queued)
        self.cached.set(stats.cached_slots)
        self.lag.set(lag_records)

    def snapshot(self) -> MetricsSnapshot:
        return MetricsSnapshot(
            instance=self.instance,
            time=datetime.now(UTC),
            uptime_seconds=round(time.monotonic() - self._started, 3),
            engine=self.engine,
            requests_total=self._by_label(self.requests, "status"),
            requests_in_flight=self._value(self.in_flight),
            tool_calls_total=self._by_label(self.tools, "outcome"),
            prompt_tokens_total=self._by_label(self.tokens, "kind").get("prompt", 0),
            cached_tokens_total=self._by_label(self.tokens, "kind").get("cached", 0),
            completion_tokens_total=self._by_label(self.tokens, "kind").get("completion", 0),
            active_rows=self._value(self.rows),
            queued_prompts=self._value(self.queued),
            cached_slots=self._value(self.cached),
            lag_records=self._value(self.lag),
            latency_seconds={"p50": percentile(self._recent, 0.5), "p99": percentile(self._recent, 0.99)},
        )

    @staticmethod
    def _by_label(counter: Counter, label: str) -> dict[str, int]:
        totals: dict[str, int] = {}
        for family in counter.collect():
            for sample in family.samples:
                if sample.name.endswith("_total"):
                    key = sample.labels[label]
                    totals[key] = totals.get(key, 0) + int(sample.value)
        return totals

    @staticmethod
    def _value(gauge: Gauge) -> int:
        return int(next(iter(gauge.collect())).samples[0].value)


def percentile(values: "deque[float] | list[float]", share: float) -> float:
    """The nearest-rank percentile: the smallest value that at least `share` of `values` do not exceed."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
