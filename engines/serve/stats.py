"""What the machine did, as counters and as a snapshot for metrics."""

from dataclasses import dataclass, field

from engines.serve.prompt import FinishReason


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot. Totals count since the engine started; seconds are wall-clock of the engine's thread.

    tokens_per_second: the most that decoding has brought so far.
    """

    active_rows: int
    queued: int
    cached_slots: int
    slots: int
    tokens_per_second: float
    tokens_generated: int
    tokens_prefilled: int
    tokens_cached: int
    tokens_forced: int
    decode_steps_saved: int
    prefills: int
    decode_steps: int
    decode_rows: int
    prefill_seconds: float
    decode_seconds: float
    masks: int
    mask_seconds: float
    step_seconds: float
    finished: dict[FinishReason, int]
    failed: int


@dataclass(slots=True)
class Counters:
    """Written by the engine's thread; decode_steps_saved: steps of a row that a prefill made unnecessary."""

    tokens_generated: int = 0
    tokens_prefilled: int = 0
    tokens_cached: int = 0
    tokens_forced: int = 0
    decode_steps_saved: int = 0
    prefills: int = 0
    decode_steps: int = 0
    decode_rows: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    masks: int = 0
    mask_seconds: float = 0.0
    step_seconds: float = 0.0
    failed: int = 0
    finished: dict[FinishReason, int] = field(
        default_factory=lambda: {"stop": 0, "length": 0, "cancelled": 0, "expired": 0}
    )
