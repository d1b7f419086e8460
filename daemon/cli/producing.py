"""A producer for commands that write a few records."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaProducer
from pydantic import BaseModel

from daemon.cli.failures import explained
from daemon.kafka.partitions import partitions_of
from daemon.kafka.settings import KafkaSettings


@asynccontextmanager
async def producing(settings: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    """Raises NoBroker when the brokers cannot be reached, KafkaRefused for what else they do inside."""
    producer = AIOKafkaProducer(
        **settings.connection(), acks="all", enable_idempotence=True, max_request_size=2**31 - 1
    )
    with explained(settings):
        try:
            await producer.start()
            yield producer
        finally:
            await producer.stop()


async def send_control(settings: KafkaSettings, message: BaseModel, key: bytes | None = None) -> None:
    """Put `message`, one of schemas.control, on the control topic. Raises NoSuchTopic and as `producing`."""
    topic = settings.control_topic
    async with producing(settings) as producer:
        await partitions_of(producer, topic)
        value = message.model_dump_json(exclude_none=True).encode()
        await producer.send_and_wait(topic, value, key=key)
