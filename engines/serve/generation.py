"""The caller's end of one generation: fed by the engine's thread, read by asyncio or by a blocking wait."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable

from engines.serve.prompt import Chunk, Completion


class Generation:
    """Tokens as they come, then a Completion or an error. Any thread may cancel; one task may stream."""

    def __init__(
        self, cancel: Callable[["Generation"], None], loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self._cancel, self.loop = cancel, loop
        self.cancelled = False
        self._known: list[int] = []  # grows in the engine's thread, is only read here
        self._read = 0
        self.streaming = False  # whether somebody wants to hear of every token
        self._outcome: Completion | BaseException | None = None
        self._done = threading.Event()
        self._wake: asyncio.Event | None = None

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def cancel(self) -> None:
        """Stop soon; the outcome is then a Completion with finish_reason "cancelled". Never fails."""
        if not self.done and not self.cancelled:
            self.cancelled = True
            self._cancel(self)

    def wait(self, timeout: float | None = None) -> Completion:
        """Block until done. Raises TimeoutError, or the generation's error."""
        if not self._done.wait(timeout):
            raise TimeoutError(f"the generation is not done after {timeout} s")
        return self._result()

    async def result(self) -> Completion:
        """The outcome. Raises the generation's error. Cancelling the awaiting task does not cancel it."""
        wake = self._event()
        while not self.done:
            await wake.wait()
            wake.clear()
        wake.set()  # another task may be waiting as well
        return self._result()

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        """What came since the last chunk, until done. Raises the generation's error."""
        wake = self._event()
        self.streaming = True
        while True:
            done = self.done  # before looking for tokens: what comes after the last look is not lost
            fresh = self._known[self._read :]
            if fresh:
                self._read += len(fresh)
                yield Chunk(fresh)
            elif done:
                wake.set()
                self._result()
                return
            else:
                await wake.wait()
                wake.clear()

    def follow(self, known: list[int]) -> None:
        """Before anything runs: the tokens are those appended to `known` from now on.

        Readers look at them after a `notify`.
        """
        self._known, self._read = known, len(known)

    def finish(self, outcome: Completion | BaseException) -> None:
        """Engine's thread: the outcome; the first one counts."""
        if not self.done:
            self._outcome = outcome
            self._done.set()

    def wake(self) -> None:
        """Event loop's thread: let the waiting tasks look."""
        if self._wake is not None:
            self._wake.set()

    @property
    def watched(self) -> bool:
        """Whether any task waits here."""
        return self._wake is not None

    def _event(self) -> asyncio.Event:
        loop = asyncio.get_running_loop()
        if self.loop is None:
            self.loop = loop
        if self.loop is not loop:
            raise RuntimeError("a generation is read in the event loop it was submitted from")
        if self._wake is None:
            self._wake = asyncio.Event()
        return self._wake

    def _result(self) -> Completion:
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        assert self._outcome is not None
        return self._outcome


def notify(generations: Iterable[Generation]) -> None:
    """Wake the readers of `generations`: one call into each event loop, however many there are."""
    loops: dict[asyncio.AbstractEventLoop, list[Generation]] = {}
    for generation in generations:
        if generation.watched and generation.loop is not None:
            loops.setdefault(generation.loop, []).append(generation)
    for loop, members in loops.items():
        try:
            loop.call_soon_threadsafe(_wake_all, members)
        except RuntimeError:  # the loop is closed: nobody waits there any more
            continue


def _wake_all(generations: list[Generation]) -> None:
    for generation in generations:
        generation.wake()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The calling thread's event loop; None outside of one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
