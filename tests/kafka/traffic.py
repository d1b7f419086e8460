"""What the tests around a consumer need: topics, requests, and everything that was answered."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import CreateAclsRequest

from daemon.kafka.consumer import Consumer
from daemon.kafka.envelope import Envelope
from daemon.kafka.record import Emit, Handler, Headers, Incoming, Outgoing
from daemon.kafka.replies import reply_record
from daemon.kafka.settings import KafkaSettings


def settings(address: str, name: str, **changes: object) -> KafkaSettings:
    """Topics and group of one test; short times."""
    values: dict[str, object] = {
        "bootstrap_servers": address,
        "group_id": name,
        "request_topics": (f"{name}.requests",),
        "reply_topic": f"{name}.replies",
        "dead_letter_topic": f"{name}.dead-letters",
        "metrics_topic": f"{name}.metrics",
        "control_topic": f"{name}.control",
        "journal_topic": f"{name}.journal",
        "audit_topic": f"{name}.audit",
        "partitions": 2,
        "session_timeout_seconds": 3.0,
        "rebalance_grace_seconds": 2.0,
        "drain_grace_seconds": 5.0,
    }
    return KafkaSettings.model_validate(values | changes)


async def create_topic(address: str, topic: str, partitions: int = 1, **configs: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs)])
    finally:
        await admin.close()


_WRITE, _SEEN = 4, (3, 8, 10)  # operations; the latter are Read, Describe and DescribeConfigs
_DENY, _ALLOW = 2, 3


async def forbid_writing(address: str, topic: str) -> None:
    """Nobody may write to it from now on. All may still see it: where a topic has rules, what none of them
    allows is forbidden.
    """
    client = AIOKafkaClient(bootstrap_servers=address)
    await client.bootstrap()
    try:
        for operation, permission in (*((seen, _ALLOW) for seen in _SEEN), (_WRITE, _DENY)):
            rule = CreateAclsRequest(
                resource_type=2,
                resource_name=topic,
                resource_pattern_type_filter=3,
                principal="User:*",
                host="*",
                operation=operation,
                permission_type=permission,
            )
            answer = await client.send(client.get_random_node(), rule)
            [(code, message)] = answer.creation_responses
            assert code == 0, message
    finally:
        await client.close()


async def put(
    address: str,
    topic: str,
    requests: Iterable[tuple[bytes | None, bytes] | tuple[bytes | None, bytes, Headers]],
) -> None:
    """Write requests (key, value, headers) in order."""
    async with AIOKafkaProducer(
        bootstrap_servers=address, enable_idempotence=True, max_request_size=2**26
    ) as producer:
        for key, value, *headers in requests:
            await producer.send(topic, value, key=key, headers=list(headers[0]) if headers else [])
        await producer.flush()


async def read(
    address: str,
    topic: str,
    count: int,
    *,
    seconds: float = 30.0,
    extra_seconds: float = 0.3,
    isolation: str = "read_committed",
) -> list[ConsumerRecord]:
    """All records of `topic` once there are `count` of them, and those that still come soon after."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=address,
        auto_offset_reset="earliest",
        isolation_level=isolation,
        fetch_max_wait_ms=100,
    )
    await consumer.start()
    found: list[ConsumerRecord] = []

    async def until(end: float, enough: float) -> None:
        while len(found) < enough and time.monotonic() < end:
            batches = await consumer.getmany(timeout_ms=100)
            found.extend(record for batch in batches.values() for record in batch)

    try:
        await until(time.monotonic() + seconds, count)
        await until(time.monotonic() + extra_seconds, math.inf)
        return found
    finally:
        await consumer.stop()


async def committed(address: str, group: str) -> dict[TopicPartition, tuple[int, str]]:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(group)
        return {partition: (mark.offset, mark.metadata) for partition, mark in found.items()}
    finally:
        await admin.close()


@asynccontextmanager
async def running(chosen: KafkaSettings, handler: Handler, **options: Any) -> AsyncIterator[Consumer]:
    """A consumer at work; drained and stopped at the end. A failure of it is the test's failure."""
    consumer = Consumer(chosen, handler, **options)
    await consumer.start()
    run = asyncio.create_task(consumer.run())
    try:
        yield consumer
        await consumer.drain()
    finally:
        await consumer.stop()
        await run


async def opened(consumer: Consumer, partitions: int = 1) -> None:
    """Returns when the consumer works on that many partitions."""
    while consumer.partitions != partitions:  # noqa: ASYNC110  the test's timeout bounds it
        await asyncio.sleep(0.02)


def echo(chosen: KafkaSettings, seconds: float = 0.0) -> Handler:
    """Answers every request with its own value after a while."""

    async def handler(record: Incoming, emit: Emit) -> list[Outgoing]:
        await asyncio.sleep(seconds)
        envelope = Envelope.of(record)
        return [
            reply_record(record, envelope, envelope.reply_topic or chosen.reply_topic, record.value or b"")
        ]

    return handler
