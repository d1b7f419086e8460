"""Consumers without a group, as this room ends them."""

import asyncio

from aiokafka import AIOKafkaConsumer


async def stop_reader(consumer: AIOKafkaConsumer) -> None:
    """Stop it. When that comes right after `start`, the client cancels a task that never ran and lets its
    CancelledError out, as if the caller had been cancelled: that is not passed on.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        if task is None or task.cancelling() > before:
            raise
