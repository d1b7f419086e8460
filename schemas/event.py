"""What the daemon says about itself on the metrics topic."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from schemas.strict import Strict


class MetricsSnapshot(Strict):
    """State of one daemon, published every few seconds. Counters grow from the daemon's start."""

    type: Literal["metrics"] = "metrics"
    instance: str = Field(description="`host/pid` of the daemon.")
    time: datetime
    uptime_seconds: float
    engine: str
    requests_total: dict[str, int] = Field(description="Replies by status.")
    requests_in_flight: int
    tool_calls_total: dict[str, int] = Field(description="Executed tool calls by outcome.")
    prompt_tokens_total: int
    cached_tokens_total: int
    completion_tokens_total: int
    active_rows: int
    queued_prompts: int
    cached_slots: int
    lag_records: int = Field(description="Records of the assigned partitions that were not taken in yet.")
    latency_seconds: dict[str, float] = Field(description="`p50` and `p99` of recent replies.")
