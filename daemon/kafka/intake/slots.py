"""How many requests the daemon works on at once, all partitions together."""

import asyncio


class Slots:
    """Counted slots; who comes first is served first. One may also ask to be `alone`: to have all of them."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = asyncio.Semaphore(count)
        self._gathering = asyncio.Lock()  # two who gather all slots at once would wait for each other

    async def acquire(self, *, alone: bool = False) -> None:
        if not alone:
            await self._free.acquire()
            return
        async with self._gathering:
            gathered = 0
            try:
                while gathered < self._count:
                    await self._free.acquire()
                    gathered += 1
            except BaseException:
                self._release(gathered)
                raise

    def release(self, *, alone: bool = False) -> None:
        self._release(self._count if alone else 1)

    def _release(self, count: int) -> None:
        for _ in range(count):
            self._free.release()
