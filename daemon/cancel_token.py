"""That somebody does not want an answer any more, told to whoever works on it."""

import asyncio
from collections.abc import Callable
from types import TracebackType

from daemon.errors import Cancelled


class CancelToken:
    """Set once, from the event loop's thread; may be set before, while and after work is done under it."""

    __slots__ = ("_interrupts", "_set")

    def __init__(self) -> None:
        self._set = False
        self._interrupts: list[Callable[[], None]] = []

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        for interrupt in self._interrupts.copy():
            interrupt()

    def interrupting(self) -> "_Interrupting":
        """with token.interrupting(): what the task awaits inside is cancelled when this is set.

        Raises Cancelled then, once that has ended and however it did. A cancellation of the task itself
        stays one.
        """
        return _Interrupting(self._interrupts, self._set)


class _Interrupting:
    """The way asyncio.timeout does it: the task is cancelled, and takes its cancellation back at the end."""

    __slots__ = ("_before", "_hit", "_interrupts", "_set", "_task")

    def __init__(self, interrupts: list[Callable[[], None]], set_: bool) -> None:
        self._interrupts, self._set, self._hit = interrupts, set_, False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._before = task, task.cancelling()
        if self._set:
            raise Cancelled
        self._interrupts.append(self._interrupt)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._interrupts.remove(self._interrupt)
        if not self._hit:
            return
        if self._task.uncancel() > self._before and kind is asyncio.CancelledError:
            return
        raise Cancelled from None

    def _interrupt(self) -> None:
        if not self._hit:
            self._hit = True
            self._task.cancel()
