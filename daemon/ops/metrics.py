"""Counters, gauges and latencies of one daemon: read by Prometheus and by the metrics topic."""

import math
import time
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from daemon.version import VERSION
from engines.serve.stats import EngineStats
from schemas.event import EngineState, MetricsSnapshot
from schemas.reply import Reply

RECENT_REPLIES = 1_024
ReplicaState = Literal["serving", "retiring", "failed"]
LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Metrics:
    """Holds its own registry, so that two daemons in one process (as in tests) do not share counters."""

    def __init__(self, instance: str) -> None:
        self.instance = instance
        self._engines: dict[str, EngineState] = {}
        self.registry = CollectorRegistry()
        self._started = time.monotonic()
        self._recent: deque[float] = deque(maxlen=RECENT_REPLIES)
        registry = self.registry
        Info("autoglm_build", "The daemon's version", registry=registry).info({"version": VERSION})
        self.requests = Counter("autoglm_requests_total", "Replies", ["status", "engine"], registry=registry)
        self.tools = Counter(
            "autoglm_tool_calls_total", "Executed tool calls", ["tool", "outcome"], registry=registry
        )
        self.memory_failures = Counter(
            "autoglm_memory_failures_total",
            "Times the conversation memory did not answer",
            ["operation"],
            registry=registry,
        )
        self.tokens = Counter("autoglm_tokens_total", "Tokens", ["kind", "engine"], registry=registry)
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

        def of_engine(name: str, text: str, *more: str) -> Gauge:
            return Gauge(f"autoglm_{name}", text, ["engine", *more], registry=registry)

        self.rows = of_engine("active_rows", "Rows decoded together now")
        self.queued = of_engine("queued_prompts", "Prompts waiting for a slot")
        self.cached = of_engine("cached_slots", "Idle slots that hold a reusable prefix")
        self.speed = of_engine("tokens_per_second", "The most that decoding has brought, all replicas")
        self.replicas = of_engine("engine_replicas", "Loaded engines", "state")

    def count(self, reply: Reply) -> None:
        """Account for one terminal reply."""
        engine = reply.model or ""
        self.requests.labels(reply.status, engine).inc()
        for report in reply.tools:
            self.tools.labels(report.name, report.outcome).inc()
        self.tokens.labels("prompt", engine).inc(reply.usage.prompt_tokens)
        self.tokens.labels("cached", engine).inc(reply.usage.cached_tokens)
        self.tokens.labels("completion", engine).inc(reply.usage.completion_tokens)
        self.latency.observe(reply.timings.total_ms / 1e3)
        self._recent.append(reply.timings.total_ms / 1e3)
        if reply.timings.first_token_ms is not None:
            self.first_token.observe(reply.timings.first_token_ms / 1e3)

    def count_memory_failure(self, operation: str) -> None:
        """The conversation memory did not answer to a `read` or `write`."""
        self.memory_failures.labels(operation).inc()

    def observe(self, replicas: Iterable[tuple[str, ReplicaState, EngineStats]], lag_records: int) -> None:
        """Set the gauges from the state of the engines' replicas, by name, and of the consumer now."""
        found: dict[str, list[tuple[ReplicaState, EngineStats]]] = {}
        for engine, state, stats in replicas:
            found.setdefault(engine, []).append((state, stats))
        self._engines = {engine: _together(parts) for engine, parts in found.items()}
        for gauge in (self.rows, self.queued, self.cached, self.speed, self.replicas):
            gauge.clear()  # of what is not there any more
        for engine, together in self._engines.items():
            self.rows.labels(engine).set(together.active_rows)
            self.queued.labels(engine).set(together.queued_prompts)
            self.cached.labels(engine).set(together.cached_slots)
            self.speed.labels(engine).set(together.tokens_per_second)
            for state, _ in found[engine]:
                self.replicas.labels(engine, state).inc()
        self.lag.set(lag_records)

    def snapshot(self) -> MetricsSnapshot:
        return MetricsSnapshot(
            instance=self.instance,
            version=VERSION,
            time=datetime.now(UTC),
            uptime_seconds=round(time.monotonic() - self._started, 3),
            engines=self._engines,
            requests_total=self._by_label(self.requests, "status"),
            requests_in_flight=self._value(self.in_flight),
            tool_calls_total=self._by_label(self.tools, "outcome"),
            prompt_tokens_total=self._by_label(self.tokens, "kind").get("prompt", 0),
            cached_tokens_total=self._by_label(self.tokens, "kind").get("cached", 0),
            completion_tokens_total=self._by_label(self.tokens, "kind").get("completion", 0),
            active_rows=sum(engine.active_rows for engine in self._engines.values()),
            queued_prompts=sum(engine.queued_prompts for engine in self._engines.values()),
            cached_slots=sum(engine.cached_slots for engine in self._engines.values()),
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


def _together(replicas: Sequence[tuple[ReplicaState, EngineStats]]) -> EngineState:
    alive = [stats for state, stats in replicas if state != "failed"]
    return EngineState(
        replicas=len(replicas),
        failed=len(replicas) - len(alive),
        active_rows=sum(stats.active_rows for stats in alive),
        queued_prompts=sum(stats.queued for stats in alive),
        cached_slots=sum(stats.cached_slots for stats in alive),
        tokens_per_second=round(sum(stats.tokens_per_second for stats in alive), 1),
    )


def percentile(values: "deque[float] | list[float]", share: float) -> float:
    """The nearest-rank percentile: the smallest value that at least `share` of `values` do not exceed."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
