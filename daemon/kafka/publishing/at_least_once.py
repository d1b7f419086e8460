"""Answers are acknowledged before the offset moves: after a crash some are written again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    UnknownTopicOrPartitionError,
)

from daemon.kafka.brokers.producer import may_pass, refuses
from daemon.kafka.brokers.shared import SharedProducer
from daemon.kafka.brokers.topics import Topics
from daemon.kafka.errors import LaneFenced, RecordsRefused
from daemon.kafka.progress.offsets import Mark
from daemon.kafka.record import Outgoing

log = structlog.get_logger(__name__)

Commit = Callable[[dict[TopicPartition, tuple[int, str]]], Awaitable[None]]
_RETRY_SECONDS = 1.0
_LOOK_SECONDS = 5.0  # after which it is asked whether the topics are still there


class AtLeastOncePublisher:
    """One producer for all partitions; offsets go through the consumer's group membership."""

    def __init__(self, producer: SharedProducer, commit: Commit, topics: Topics) -> None:
        """`producer` and `topics` are started and stopped by the caller."""
        self._producer, self._commit, self._topics = producer, commit, topics

    async def open(self, topic: str, partition: int) -> "AtLeastOnceLane":
        return AtLeastOnceLane(self._producer, self._commit, self._topics, TopicPartition(topic, partition))


class AtLeastOnceLane:
    def __init__(
        self, producer: SharedProducer, commit: Commit, topics: Topics, partition: TopicPartition
    ) -> None:
        self._producer, self._commit, self._topics = producer, commit, topics
        self._partition = partition

    async def publish(self, records: Sequence[Outgoing], mark: Mark) -> None:
        """Tries again after what may pass; some records may then be written twice. A partition that is not
        there fences the lane: whoever opens it next chooses another one.
        """
        while True:
            try:
                await self._send(records)
                break
            except UnknownTopicOrPartitionError as error:
                raise LaneFenced(
                    f"A record has nowhere to go ({error!r}); the lane is opened anew."
                ) from error
            except Exception as error:
                if refuses(error):
                    raise RecordsRefused(f"The brokers refused a record ({error!r}).") from error
                if not may_pass(error):
                    raise
                log.warning("replies_delayed", partition=str(self._partition), error=repr(error))
                await asyncio.sleep(_RETRY_SECONDS)
        try:
            await self._commit({self._partition: (mark.offset, mark.metadata)})
        except (CommitFailedError, IllegalStateError) as error:
            raise LaneFenced from error

    async def _send(self, records: Sequence[Outgoing]) -> None:
        sending = asyncio.ensure_future(self._producer.send_all(records))
        try:
            while not (await asyncio.wait({sending}, timeout=_LOOK_SECONDS))[0]:
                self._topics.doubt()
                for topic in {record.topic for record in records}:
                    if await self._topics.find(topic) is None:  # the client would wait for it
                        raise RecordsRefused(f"The topic {topic} does not exist any more.")
        finally:
            sending.cancel()
        await sending

    async def close(self) -> None:
        """The producer is shared and stays."""
