"""Answers and offset in one transaction: readers with `read_committed` see each answer once."""

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    IllegalOperation,
    InvalidProducerEpoch,
    InvalidTransactionTimeout,
    KafkaError,
    ProducerFenced,
)

from daemon.kafka.brokers.producer import close, may_pass, new_producer, refuses, send, send_all, start
from daemon.kafka.errors import LaneFenced, RecordsRefused, TimeoutRefused
from daemon.kafka.progress.offsets import Mark
from daemon.kafka.record import Outgoing
from daemon.kafka.settings import KafkaSettings

# A transaction may not begin until the markers of the former one are written, which takes milliseconds;
# the client's default of 100 ms would be most of a short transaction.
_BACKOFF_MILLISECONDS = 20
_ABORT_SECONDS = 2.0


class TransactionalPublisher:
    """One transactional producer per input partition, with the id `group.topic.partition`.

    Whoever opens a partition gets a new epoch for that id; the brokers refuse the former owner's
    transactions from then on, also those of a process that was frozen and comes back.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        # Each opening costs connections and round trips; all at once they would time one another out.
        self._opening = asyncio.Semaphore(8)

    async def open(self, topic: str, partition: int) -> "TransactionalLane":
        """Fences the partition's former owner; its open transaction is aborted when this returns.

        Raises LaneFenced when the brokers could not do that now, TimeoutRefused when they never will.
        """
        settings = self._settings
        producer = new_producer(
            settings,
            retry_backoff_ms=_BACKOFF_MILLISECONDS,
            transactional_id=f"{settings.group_id}.{topic}.{partition}",
            transaction_timeout_ms=int(settings.transaction_timeout_seconds * 1000),
        )
        limit = settings.transaction_timeout_seconds
        async with self._opening:
            try:
                await start(producer, limit)
            except InvalidTransactionTimeout as error:
                raise TimeoutRefused(
                    f"The brokers do not accept {limit:g} s as `kafka.transaction_timeout_seconds`; stay "
                    "below their `transaction.max.timeout.ms`."
                ) from error
            except Exception as error:
                if may_pass(error):
                    raise LaneFenced(f"No transactions at the moment ({error!r}).") from error
                raise
        return TransactionalLane(producer, TopicPartition(topic, partition), settings.group_id, limit)


class TransactionalLane:
    """`limit_seconds`: after which the brokers abort a transaction by themselves."""

    def __init__(
        self, producer: AIOKafkaProducer, partition: TopicPartition, group_id: str, limit_seconds: float
    ) -> None:
        self._producer = producer
        self._limit = limit_seconds
        self._partition = partition
        self._group_id = group_id
        self._committed: Mark | None = None

    async def publish(self, records: Sequence[Outgoing], mark: Mark) -> None:
        """Any failure that may pass fences the lane: whether the transaction took place is then read
        from the brokers by whoever opens the partition next.
        """
        try:
            async with asyncio.timeout(self._limit):
                await self._transact(records, mark)
        except TimeoutError as error:
            raise LaneFenced(
                f"A transaction was not done after {self._limit:.3g} s; the partition is opened anew."
            ) from error
        except (ProducerFenced, InvalidProducerEpoch) as error:
            raise LaneFenced from error
        except (KafkaError, IllegalOperation, AssertionError) as error:
            if refuses(error):
                raise RecordsRefused(f"The brokers refused a record ({error!r}).") from error
            if not may_pass(error):
                raise
            raise LaneFenced(f"The transaction failed ({error!r}); the partition is opened anew.") from error

    async def _transact(self, records: Sequence[Outgoing], mark: Mark) -> None:
        offsets = {self._partition: (mark.offset, mark.metadata)}
        await self._producer.begin_transaction()
        sending = [send_all(partial(send, self._producer), records)]
        # Notes of tools come without: two round trips less before a tool runs.
        if mark != self._committed:
            sending.append(self._producer.send_offsets_to_transaction(offsets, self._group_id))
        await asyncio.gather(*sending)
        await self._producer.commit_transaction()
        self._committed = mark

    async def close(self) -> None:
        """A transaction that was cut off is aborted: left open, it would hold up readers until it expires."""
        with contextlib.suppress(Exception):  # there is none, or it is not ours to end any more
            async with asyncio.timeout(_ABORT_SECONDS):
                await self._producer.abort_transaction()
        await close(self._producer)
