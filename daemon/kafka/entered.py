"""`async with` for what is started and stopped."""

from typing import Protocol, TypeVar


class _Startable(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...


S = TypeVar("S", bound=_Startable)


class Entered:
    """Starts it, and stops it at the end; also when the start failed, as it may have opened something."""

    async def __aenter__(self: S) -> S:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self: _Startable, *_: object) -> None:
        await self.stop()
