"""Synchronous functions away from the event loop."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any


async def in_thread(
    function: Callable[[], Any], name: str, finished: Callable[[], None] = lambda: None
) -> Any:
    """The result of `function`, run in a thread of its own; `finished` is called when the thread ends.

    Not asyncio.to_thread: a function that never returns would hold one of its workers for ever, and the
    interpreter would wait for it at exit. A daemon thread can be left behind.
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

    threading.Thread(target=run, name=name, daemon=True).start()
    return await future
