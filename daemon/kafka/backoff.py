"""How long to wait before another try."""

import random


def backoff_seconds(tries: int, base: float, most: float, retry_after: float | None = None) -> float:
    """Doubles from `base` up to `most` with each of `tries` (1 after the first), with equal jitter: half of
    it is random, so that what failed together does not come back together. Never less than `retry_after`.
    """
    # 2**60 times any base is beyond any bound; larger powers would overflow a float.
    wanted = min(most, base * 2.0 ** min(tries - 1, 60))
    jittered = wanted * random.uniform(0.5, 1.0)
    return max(jittered, retry_after or 0.0)
