"""Who may keep the interpreter's lock: engines between two calls of their runtimes go first.

CPython runs one thread at a time. numpy and the runtimes let the lock go in most of their calls, and a thread
with much to do, as an event loop under load, then keeps it until it waits for something itself. So the short
stretch of Python between two steps is cut into many, while the cores that compute stand still. Threads that
can wait that long ask here before they begin something.
"""

import contextlib
import threading
from collections.abc import Iterator


class Turn:
    """Held by every engine's thread while it prepares a step and reads one; any number may hold it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._free = threading.Event()
        self._free.set()

    def __enter__(self) -> None:
        with self._lock:
            self._holders += 1
            self._free.clear()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._holders -= 1
            if not self._holders:
                self._free.set()

    @contextlib.contextmanager
    def elsewhere(self) -> Iterator[None]:
        """For a holder: the work inside needs no Python."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()

    def wait(self, seconds: float) -> bool:
        """Return when nobody holds it, but after `seconds` at the latest; whether nobody does."""
        return self._free.wait(seconds)


TURN = Turn()  # one a process, as the lock is
