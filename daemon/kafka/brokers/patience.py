"""Trying again for as long as brokers are away."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from daemon.kafka.backoff import backoff_seconds
from daemon.kafka.brokers.producer import may_pass

T = TypeVar("T")

_FIRST_SECONDS, _MOST_SECONDS = 1.0, 30.0


async def patiently(attempt: Callable[[], Awaitable[T]], tell: Callable[[Exception, float], None]) -> T:
    """The result of `attempt`, called again for as long as it fails for a reason that may pass. `tell`
    hears of each such failure, and after how many seconds the next attempt comes. Raises its other failures.
    """
    tries = 0
    while True:
        try:
            return await attempt()
        except Exception as error:
            if not may_pass(error):
                raise
            tries += 1
            seconds = backoff_seconds(tries, _FIRST_SECONDS, _MOST_SECONDS)
            tell(error, round(seconds, 1))
        await asyncio.sleep(seconds)
