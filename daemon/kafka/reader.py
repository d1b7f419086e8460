"""aiokafka's consumer, with what we had to mend."""

import asyncio
from typing import Self

from aiokafka import AIOKafkaConsumer

from daemon.kafka.header_names import accept_any_header_name

accept_any_header_name()


class Reader(AIOKafkaConsumer):  # type: ignore[misc]
    """Reads records whose header names are not UTF-8, and may be stopped right after `start`; `async with`
    closes what a start that failed has opened."""

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def stop(self) -> None:
        # Right after `start` the client cancels a task that never ran and lets its CancelledError out, as if
        # the caller had been cancelled: that is not passed on.
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        try:
            await super().stop()
        except asyncio.CancelledError:
            if task is None or task.cancelling() > before:
                raise
