"""The producer's side of the contract, as `autoglm ask`, the demo and the tests use it."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from pydantic import TypeAdapter, ValidationError

from daemon.kafka.entered import Entered
from daemon.kafka.partitions import partitions_of
from daemon.kafka.reader import Reader
from schemas.reply import Delta, Record, Reply

_RECORD: TypeAdapter[Reply | Delta] = TypeAdapter(Record)


class Client(Entered):
    """Sends requests and reads what is published on one reply topic from the moment of `start` on.

    `connection` are keyword arguments for aiokafka (`bootstrap_servers`, security). Reads committed
    records only, as every consumer of replies should.
    """

    def __init__(self, connection: dict[str, Any], request_topic: str, reply_topic: str) -> None:
        self._request_topic, self._reply_topic = request_topic, reply_topic
        self._producer = AIOKafkaProducer(**connection, acks="all", enable_idempotence=True, linger_ms=2)
        self._consumer = Reader(
            **connection, isolation_level="read_committed", enable_auto_commit=False, fetch_max_wait_ms=50
        )

    async def start(self) -> None:
        """Connect and note the end of the reply topic. To be stopped also when it raises: NoSuchTopic for
        either topic, aiokafka's KafkaError when no broker answers.
        """
        await self._producer.start()
        _, partitions = await partitions_of(self._producer, self._request_topic, self._reply_topic)
        await self._consumer.start()
        assigned = [TopicPartition(self._reply_topic, number) for number in partitions]
        self._consumer.assign(assigned)
        for partition, end in (await self._consumer.end_offsets(assigned)).items():
            self._consumer.seek(partition, end)

    async def stop(self) -> None:
        try:
            await self._consumer.stop()
        finally:
            await self._producer.stop()

    async def send(
        self, value: dict[str, Any] | bytes, *, key: str | None = None, headers: dict[str, str] | None = None
    ) -> str:
        """Publish one request and return its correlation id."""
        correlation = (headers or {}).get("correlation-id") or uuid.uuid4().hex
        fields = {"reply-topic": self._reply_topic, **(headers or {}), "correlation-id": correlation}
        await self._producer.send_and_wait(
            self._request_topic,
            value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode(),
            key=key.encode() if key else None,
            headers=[(name, text.encode()) for name, text in fields.items()],
        )
        return correlation

    async def records(self, timeout_seconds: float) -> AsyncIterator[tuple[str, Reply | Delta]]:
        """Every (correlation id, record) that comes on the reply topic within `timeout_seconds`.

        Passes over what is neither a reply nor a delta: others may write to that topic as well.
        """
        deadline = time.monotonic() + timeout_seconds
        while (left := deadline - time.monotonic()) > 0:
            # getmany is awaited to its end, never cancelled: aiokafka leaks its fetch context otherwise.
            for batch in (await self._consumer.getmany(timeout_ms=int(min(left, 0.2) * 1e3) + 1)).values():
                for record in batch:
                    if (parsed := _parsed(record.value)) is not None:
                        correlation = dict(record.headers).get("correlation-id") or b""
                        yield correlation.decode(errors="replace"), parsed
            await asyncio.sleep(0)


def _parsed(value: bytes | None) -> Reply | Delta | None:
    try:
        return _RECORD.validate_json(value or b"")
    except ValidationError:
        return None
