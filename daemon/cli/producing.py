"""A producer for commands that write a few records."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from pydantic import BaseModel

from daemon.kafka.settings import KafkaSettings
from schemas.errors import AutoGLMError


class NoBroker(AutoGLMError):
    """No broker answers; start one (make run) or mend `kafka.bootstrap_servers`."""

    @classmethod
    def at(cls, settings: KafkaSettings) -> "NoBroker":
        address = settings.bootstrap_servers
        return cls(f"No broker answers at {address}; start one (make run) or mend `kafka.bootstrap_servers`.")


@asynccontextmanager
async def producing(settings: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    """Raises NoBroker when the brokers cannot be reached."""
    producer = AIOKafkaProducer(
        **settings.connection(), acks="all", enable_idempotence=True, max_request_size=2**31 - 1
    )
    try:
        await producer.start()
    except KafkaError as error:
        await producer.stop()
        raise NoBroker.at(settings) from error
    try:
        yield producer
    finally:
        await producer.stop()


async def send_control(settings: KafkaSettings, message: BaseModel, key: bytes | None = None) -> None:
    """Put `message`, one of schemas.control, on the control topic. Raises NoBroker."""
    async with producing(settings) as producer:
        value = message.model_dump_json(exclude_none=True).encode()
        await producer.send_and_wait(settings.control_topic, value, key=key)
