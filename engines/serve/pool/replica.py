"""One loaded engine among those that answer for the same name."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from engines.serve.engine import Engine


class Replica:
    """`open`: how many have leased it. Only the event loop's thread calls anything here."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.open = engine, 0
        self._released: Callable[[Replica], None] | None = None

    @property
    def retiring(self) -> bool:
        return self._released is not None

    @property
    def alive(self) -> bool:
        return self.engine.alive

    @contextmanager
    def lease(self) -> Iterator[Self]:
        """While this lasts the engine is not closed, though it may fail."""
        self.open += 1
        try:
            yield self
        finally:
            self.open -= 1
            self._look()

    def retire(self, released: Callable[["Replica"], None]) -> None:
        """To be called when nobody takes leases any more; `released` is called when the last one ends."""
        self._released = released
        self._look()

    def _look(self) -> None:
        if self._released is not None and not self.open:
            self._released(self)
