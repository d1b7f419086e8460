"""What the daemon says about itself, on the metrics topic and on the audit topic."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from schemas.reply import Outcome
from schemas.strict import Strict


class EngineState(Strict):
    """Of all replicas of one engine together, also of those that only finish their requests."""

    replicas: int
    failed: int
    active_rows: int
    queued_prompts: int
    cached_slots: int
    tokens_per_second: float = Field(description="The most that decoding has brought.")


class MetricsSnapshot(Strict):
    """State of one daemon, published every few seconds. Counters grow from the daemon's start."""

    type: Literal["metrics"] = "metrics"
    instance: str = Field(description="`host/pid` of the daemon.")
    version: str = Field(description="Of Open-AutoGLM, as `autoglm --version` says.")
    time: datetime
    uptime_seconds: float
    engines: dict[str, EngineState] = Field(description="By name.")
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


class ToolAudit(Strict):
    """One executed tool call: who, what, with which arguments, to what end."""

    type: Literal["tool_audit"] = "tool_audit"
    instance: str = Field(description="`host/pid` of the daemon.")
    time: datetime = Field(description="When the call ended.")
    request_id: str
    record: str = Field(description="`topic/partition/offset` of the request.")
    topic: str
    tenant: str | None = Field(default=None, description="As the request's producer says.")
    user_id: str | None = Field(default=None, description="As the request's producer says.")
    call_id: str = Field(description="The same when a redelivered request makes the same call again.")
    tool: str
    arguments: dict[str, Any] = Field(description="As the model gave them; secrets are `***`.")
    outcome: Outcome = Field(description="`unknown`: the request was cancelled while the call ran.")
    error: str | None = Field(default=None, description="What the model was told, unless `ok`.")
    attempts: int
    duration_ms: float
