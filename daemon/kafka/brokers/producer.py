"""Producers as this room sets them up."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalOperation,
    InvalidTopicError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    OffsetMetadataTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnknownError,
    UnknownTopicOrPartitionError,
)

from daemon.kafka.record import Outgoing
from daemon.kafka.settings import KafkaSettings

log = structlog.get_logger(__name__)

Send = Callable[[Outgoing], Awaitable["asyncio.Future[object]"]]
"""Hands a record to a producer; the future is done when the brokers have it."""

# The brokers' limit counts (per topic, checked in answers.py); the client's own must not be in the way.
_NO_LIMIT = 2**31 - 1
_CLOSE_SECONDS = 5.0
_HOPELESS = (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    MessageSizeTooLargeError,
    OffsetMetadataTooLargeError,
)


def new_producer(settings: KafkaSettings, **options: Any) -> AIOKafkaProducer:
    """Not started. Writes are acknowledged by all in-sync replicas."""
    return AIOKafkaProducer(**settings.connection(), acks="all", max_request_size=_NO_LIMIT, **options)


async def start(producer: AIOKafkaProducer, seconds: float) -> None:
    """Raises aiokafka's errors, KafkaTimeoutError after so many seconds; the producer is closed then."""
    try:
        async with asyncio.timeout(seconds):  # the client itself asks for ever
            await producer.start()
    except BaseException as error:
        await close(producer)
        if isinstance(error, TimeoutError):
            raise KafkaTimeoutError("The brokers gave no producer id in time.") from error
        raise


async def send(producer: AIOKafkaProducer, record: Outgoing) -> "asyncio.Future[object]":
    """Hand a record to the producer; the future is done when the brokers have it. Raises aiokafka's errors,
    UnknownTopicOrPartitionError for a partition that its topic does not have.
    """
    await _know(producer, record)
    future: asyncio.Future[object] = await producer.send(
        record.topic,
        value=record.value,
        key=record.key,
        partition=record.partition,
        headers=list(record.headers),
    )
    return future


async def _know(producer: AIOKafkaProducer, record: Outgoing) -> None:
    """Partitions may have been added since the producer last looked, which it does every few minutes."""
    topic, partition = record.topic, record.partition
    if partition is None or partition in await producer.partitions_for(topic):
        return
    await producer.client.force_metadata_update()
    if partition not in await producer.partitions_for(topic):
        raise UnknownTopicOrPartitionError(f"{topic} has no partition {partition}.")


async def send_all(send: Send, records: Sequence[Outgoing]) -> None:
    """Returns when the brokers have all of them, in this order per partition; raises the first failure."""
    futures: list[asyncio.Future[object]] = []
    try:
        for record in records:
            futures.append(await send(record))
    except BaseException:
        for future in futures:
            future.cancel()
        raise
    await asyncio.gather(*futures)


async def close(producer: AIOKafkaProducer) -> None:
    """Flush and stop; brokers that do not answer are not waited for for ever. What is not written then fails
    with KafkaConnectionError.
    """
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await producer.stop()
            return
    except TimeoutError:
        log.warning("producer_not_flushed")
    # Behind a stopped producer the client goes on trying, with connections that nobody closes.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await producer._sender.close()
    producer._message_accumulator.fail_all(KafkaConnectionError("The producer was closed."))
    await producer.client.close()


def refuses(error: BaseException) -> bool:
    """Whether the brokers will not take these very records: because of what they are, or of their topics."""
    known = (TopicAuthorizationFailedError, MessageSizeTooLargeError, InvalidTopicError)
    # InvalidRecord, as of a record without a key for a compacted topic, is one the client has no name for.
    return isinstance(error, (*known, RecordListTooLargeError, UnknownError))


def too_large_together(error: BaseException, records: Sequence[Outgoing]) -> bool:
    """Whether what the brokers did not take may be a batch, each record of which they would take alone."""
    too_large = isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError)
    return too_large and len({record.topic for record in records}) < len(records)


def may_pass(error: BaseException) -> bool:
    """Whether trying again can help. Where brokers are away the client also runs out of time or asserts ("Did
    we not perform bootstrap?"), and it refuses operations after an error that it keeps to itself.
    """
    passing = isinstance(error, KafkaError | IllegalOperation | AssertionError | TimeoutError)
    return passing and not isinstance(error, _HOPELESS)
