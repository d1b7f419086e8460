"""Synchronous functions away from the event loop."""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

_IDLE_SECONDS = 10.0  # after this a thread without work ends

_Work = tuple[str, Callable[[], None]]


async def in_thread(
    function: Callable[[], Any], name: str, finished: Callable[[], None] = lambda: None
) -> Any:
    """The result of `function`, run in a thread that nothing else runs in; `finished` is called when it ends.

    Not asyncio.to_thread: a function that never returns would hold one of its workers for ever, and the
    interpreter would wait for it at exit. These are daemon threads, as many as are needed: one can be left
    behind. Raises RuntimeError when the system does not give another one.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def deliver(result: Any, error: BaseException | None) -> None:
        finished()
        if future.done():  # nobody waits any more
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def run() -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = function()
        except StopIteration as stop:  # the one exception a future refuses to carry
            error = RuntimeError(f"StopIteration: {stop}")
        except BaseException as raised:
            error = raised if isinstance(raised, Exception) else RuntimeError(repr(raised))
        try:
            loop.call_soon_threadsafe(deliver, result, error)
        except RuntimeError:
            return  # the loop is closed: the daemon has stopped meanwhile

    try:
        _run_in_some_thread((name, run))
    except BaseException:
        finished()
        raise
    return await future


class _Worker:
    """A thread that runs one thing after the other; starting one takes longer than many a tool runs."""

    def __init__(self, work: _Work) -> None:
        self.todo: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        self.todo.put(work)
        threading.Thread(target=self._run, name=work[0], daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                name, run = self.todo.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                try:
                    _idle.remove(self)
                except ValueError:
                    continue  # somebody has just taken it: work is coming
                return
            threading.current_thread().name = name
            run()
            del run  # whatever it holds
            _idle.append(self)


_idle: deque[_Worker] = deque()


def _run_in_some_thread(work: _Work) -> None:
    try:
        worker = _idle.pop()
    except IndexError:
        _Worker(work)
    else:
        worker.todo.put(work)
