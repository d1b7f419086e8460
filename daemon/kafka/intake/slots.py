"""How many requests the daemon works on at once, all partitions together."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

Rank = Callable[[], float]


@dataclass(eq=False, slots=True)
class _Waiter:
    rank: Rank
    granted: "asyncio.Future[None]"


class Slots:
    """Counted slots; the highest rank is served first, within it who came first. One may also ask to be
    `alone`: to have all of them, before everybody else.
    """

    def __init__(self, count: int) -> None:
        self._count = self._free = count
        self._waiters: list[_Waiter] = []  # in the order they came
        self._gathering = asyncio.Lock()  # two who gather all slots at once would wait for each other

    async def acquire(self, rank: Rank = lambda: 0.0, *, alone: bool = False) -> None:
        """`rank` is asked whenever a slot is free: what is waited for may have changed by then."""
        if not alone:
            await self._one(rank)
            return
        async with self._gathering:
            gathered = 0
            try:
                while gathered < self._count:
                    await self._one(lambda: math.inf)
                    gathered += 1
            except BaseException:
                self._release(gathered)
                raise

    def release(self, *, alone: bool = False) -> None:
        self._release(self._count if alone else 1)

    async def _one(self, rank: Rank) -> None:
        if self._free:
            self._free -= 1
            return
        waiter = _Waiter(rank, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            await waiter.granted
        except BaseException:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            else:
                self._release(1)  # it was granted all the same
            raise

    def _release(self, count: int) -> None:
        self._free += count
        while self._free:
            waiters = [waiter for waiter in self._waiters if not waiter.granted.cancelled()]
            if not waiters:
                return
            best = max(waiters, key=lambda waiter: waiter.rank())  # the first of those that are equal
            self._waiters.remove(best)
            self._free -= 1
            best.granted.set_result(None)
