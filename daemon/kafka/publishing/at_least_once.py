"""Answers are acknowledged before the offset moves: after a crash some are written again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError, OutOfOrderSequenceNumber

from daemon.kafka.brokers.shared import SharedProducer
from daemon.kafka.errors import LaneFenced
from daemon.kafka.progress.offsets import Mark
from daemon.kafka.record import Outgoing

log = structlog.get_logger(__name__)

Commit = Callable[[dict[TopicPartition, tuple[int, str]]], Awaitable[None]]
_RETRY_SECONDS = 1.0


class AtLeastOncePublisher:
    """One producer for all partitions; offsets go through the consumer's group membership."""

    def __init__(self, producer: SharedProducer, commit: Commit) -> None:
        """`producer` is started and stopped by the caller."""
        self._producer = producer
        self._commit = commit

    async def open(self, topic: str, partition: int) -> "AtLeastOnceLane":
        return AtLeastOnceLane(self._producer, self._commit, TopicPartition(topic, partition))


class AtLeastOnceLane:
    def __init__(self, producer: SharedProducer, commit: Commit, partition: TopicPartition) -> None:
        self._producer = producer
        self._commit = commit
        self._partition = partition

    async def publish(self, records: Sequence[Outgoing], mark: Mark) -> None:
        """Tries again while the brokers are away; some records may then be written twice."""
        while True:
            try:
                await self._producer.send_all(records)
                break
            except KafkaError as error:
                if not error.retriable and not isinstance(error, OutOfOrderSequenceNumber):
                    raise
                log.warning("replies_delayed", partition=str(self._partition), error=repr(error))
                await asyncio.sleep(_RETRY_SECONDS)
        try:
            await self._commit({self._partition: (mark.offset, mark.metadata)})
        except (CommitFailedError, IllegalStateError) as error:
            raise LaneFenced from error

    async def close(self) -> None:
        """The producer is shared and stays."""
