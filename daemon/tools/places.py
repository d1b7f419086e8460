"""How many calls of a tool run at a time."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from daemon.cancel_token import CancelToken
from daemon.errors import Cancelled
from daemon.tools.tool import Tool

# What a place is for. Each has its own: undoing and asking are wanted most when calls hang.
Purpose = Literal["call", "undo", "ask"]


class NotMade(Exception):
    """A call found no place while it was wanted; says why."""


class Place:
    """One of a tool's places, which the call holds and the thread it runs in: `free` when both have left.

    A thread that was left behind holds it until it ends, so that hung calls cannot pile up.
    """

    def __init__(self, free: Callable[[], None]) -> None:
        self._free = free
        self._holders = 1

    def share(self) -> None:
        self._holders += 1

    def leave(self) -> None:
        self._holders -= 1
        if not self._holders:
            self._free()


@dataclass
class Places:
    """As many of every tool and for every purpose as its `concurrency` says."""

    _slots: dict[tuple[str, Purpose, int], asyncio.Semaphore] = field(default_factory=dict)

    async def take(
        self,
        tool: Tool,
        purpose: Purpose,
        seconds: float,
        deadline: float | None = None,
        cancelled: CancelToken | None = None,
    ) -> Place:
        """A free place. Raises NotMade after `seconds`, after the deadline, and when `cancelled` is set."""
        slots = self._slots.setdefault(
            (tool.name, purpose, tool.concurrency), asyncio.Semaphore(tool.concurrency)
        )
        if deadline is not None:
            seconds = min(seconds, max(0.0, deadline - time.monotonic()))
        try:
            with (cancelled or CancelToken()).interrupting():
                async with asyncio.timeout(seconds):
                    await slots.acquire()
        except TimeoutError:
            raise NotMade(f"{tool.name} is busy; the call was not made") from None
        except Cancelled:
            raise NotMade("the request was cancelled; the call was not made") from None
        if deadline is not None and time.monotonic() >= deadline:
            slots.release()
            raise NotMade("the request's deadline has passed; the call was not made")
        return Place(slots.release)
