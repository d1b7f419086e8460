"""What the consumers in processes of their own have in common."""

import asyncio
import signal

from daemon.kafka.consumer import Consumer
from daemon.kafka.record import Handler
from daemon.kafka.settings import KafkaSettings


async def serve(chosen: KafkaSettings, handler: Handler) -> None:
    """Until SIGTERM, which drains and stops, or a failure, which is raised."""
    consumer = Consumer(chosen, handler)
    await consumer.start()
    terminated = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
    run = asyncio.create_task(consumer.run())
    stop = asyncio.create_task(terminated.wait())
    await asyncio.wait([run, stop], return_when=asyncio.FIRST_COMPLETED)
    await consumer.drain()
    await consumer.stop()
    stop.cancel()
    await run
