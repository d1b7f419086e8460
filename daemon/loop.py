"""The event loop the daemon runs in: it gives way to the engines."""

import asyncio
import selectors
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from engines.serve.turn import TURN

T = TypeVar("T")


class YieldingSelector(selectors.DefaultSelector):
    """Returns when no engine is between two steps, but after `patience` seconds in any case."""

    def __init__(self, patience: float) -> None:
        super().__init__()
        self._patience = patience

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events: list[tuple[selectors.SelectorKey, int]] = super().select(timeout)
        TURN.wait(self._patience)
        return events


def new_event_loop() -> asyncio.AbstractEventLoop:
    """It waits for the engines no longer than the interpreter would make them wait for it."""
    return asyncio.SelectorEventLoop(YieldingSelector(sys.getswitchinterval()))


def run(main: Coroutine[Any, Any, T]) -> T:
    """asyncio.run, in such a loop."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)
