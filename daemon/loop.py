"""The event loop the daemon runs in: it gives way to the engines."""

import asyncio
import selectors
import sys
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from engines.serve.turn import TURN

T = TypeVar("T")


_SHARE = 1 / 4


class YieldingSelector(selectors.DefaultSelector):
    """Returns when no engine is between two steps, but after `patience` seconds in any case.

    Where there is hardly a moment without, because there are many engines, a quarter of the time goes there.
    """

    def __init__(self, patience: float) -> None:
        super().__init__()
        self._patience = patience
        self._again = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events: list[tuple[selectors.SelectorKey, int]] = super().select(timeout)
        began = time.perf_counter()
        if began >= self._again:
            TURN.wait(self._patience)
            self._again = began + (time.perf_counter() - began) / _SHARE
        return events


def new_event_loop() -> asyncio.AbstractEventLoop:
    """It waits for the engines no longer than the interpreter would make them wait for it."""
    return asyncio.SelectorEventLoop(YieldingSelector(sys.getswitchinterval()))


def run(main: Coroutine[Any, Any, T]) -> T:
    """asyncio.run, in such a loop."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)
