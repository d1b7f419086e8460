"""Waiting for the GPU, but not for ever."""

import time
from collections.abc import Callable

from engines.errors import StepHung

_POLL = 20e-6  # seconds


def wait_until(
    done: Callable[[], bool],
    limit: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return once `done` says so. limit: seconds. Raises StepHung after that, and whatever `done` raises."""
    if done():
        return
    deadline = clock() + limit
    while not done():
        if clock() > deadline:
            raise StepHung(
                f"the GPU has not finished a step after {limit:g} s; restart, then see dmesg for Xid"
            )
        sleep(_POLL)
