"""What is committed in a topic, from a position to where the topic ends now."""

import time
from collections.abc import AsyncIterator

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaTimeoutError

from daemon.kafka.reader import Reader
from daemon.kafka.settings import KafkaSettings

_FETCH_WAIT_MILLISECONDS = 20


class BacklogReader(Reader):
    """To be assigned partitions; it starts at their beginning where nothing else is sought."""

    def __init__(self, settings: KafkaSettings) -> None:
        super().__init__(
            **settings.connection(),
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=_FETCH_WAIT_MILLISECONDS,
        )
        # So long the brokers let a transaction of ours be open.
        self._patience_seconds = settings.transaction_timeout_seconds

    async def batches(self) -> AsyncIterator[list[ConsumerRecord]]:
        """Records, in order per partition, until the ends that the partitions had when they were first
        fetched; an empty list now and then.

        Waits for transactions that are open: what they hold back may be what is looked for. Raises
        KafkaTimeoutError when one stays open for longer than the brokers allow ours, or when they deliver
        nothing, aiokafka's other errors as they come.
        """
        left = dict.fromkeys(self.assignment(), -1)  # the last position of each
        ends: dict[TopicPartition, int] = {}
        moved = time.monotonic()
        while left:
            found = await self.getmany(timeout_ms=_FETCH_WAIT_MILLISECONDS)
            yield [record for records in found.values() for record in records]
            for partition, before in list(left.items()):
                # Not the last stable offset: what we look for may lie beyond another's open transaction.
                end = self.highwater(partition)
                if end is not None:
                    ends.setdefault(partition, end)
                left[partition] = await self.position(partition)
                if left[partition] != before:
                    moved = time.monotonic()
                if left[partition] >= ends.get(partition, left[partition] + 1):
                    del left[partition]
            if time.monotonic() - moved > self._patience_seconds:
                raise KafkaTimeoutError(self._stands(left, ends))

    def _stands(self, left: dict[TopicPartition, int], ends: dict[TopicPartition, int]) -> str:
        partition, position = next(iter(left.items()))
        name = f"{partition.topic}/{partition.partition}"
        if partition not in ends:
            return f"Nothing of {name} could be fetched for {self._patience_seconds:.3g} s."
        return (
            f"{name} shows nothing committed from offset {position} to {ends[partition]} for "
            f"{self._patience_seconds:.3g} s: a transaction there has not ended. Should it stay so, look for "
            "it with `kafka-transactions.sh find-hanging` and abort it."
        )
