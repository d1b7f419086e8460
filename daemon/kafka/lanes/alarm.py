"""A call at the earliest of several moments."""

import asyncio
import math
import time
from collections.abc import Callable


class Alarm:
    """Moments are seconds since 1970, as deadlines are."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._moment = math.inf
        self._handle: asyncio.TimerHandle | None = None

    def by(self, moment: float | None) -> None:
        """Ring at `moment` at the latest; None: never mind."""
        if moment is None or moment >= self._moment:
            return
        self.stop()
        self._moment = moment
        self._handle = asyncio.get_running_loop().call_later(max(0.0, moment - time.time()), self._rings)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._moment, self._handle = math.inf, None

    def _rings(self) -> None:
        self.stop()
        self._ring()
