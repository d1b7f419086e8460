"""Which of several replicas takes the next request: the one that will have the least to do."""

from collections.abc import Mapping, Sequence

_MOST = 8.0  # times as fast as another, at most: an estimate that was once too bad must have a chance to mend
_PATIENCE = 2.0  # a conversation stays with its slot unless elsewhere it would be served this much sooner


def speeds(decode_seconds: Sequence[Mapping[int, float]]) -> list[float]:
    """Tokens per second of each replica, all at the same number of rows: the largest that all have measured.

    decode_seconds: of each, `StepCosts.decode_seconds`. Where they have nothing in common all count as equal.
    """
    common = set.intersection(*(set(costs) for costs in decode_seconds))
    if not common:
        return [1.0] * len(decode_seconds)
    size = max(common)
    found = [(1 << size >> 1) / max(costs[size], 1e-9) for costs in decode_seconds]
    return [max(speed, max(found) / _MOST) for speed in found]


def least_loaded(open_: Sequence[int], speed: Sequence[float], kept: int | None = None) -> int:
    """The index of the replica where one request more waits shortest, the first of equals.

    open_: requests in each one's hands; speed: of each, in any unit. kept: the one that has the
    conversation's KV; it is preferred within reason.
    """
    waits = [(count + 1) / rate for count, rate in zip(open_, speed, strict=True)]
    best = min(range(len(waits)), key=waits.__getitem__)
    return kept if kept is not None and waits[kept] <= _PATIENCE * waits[best] else best
