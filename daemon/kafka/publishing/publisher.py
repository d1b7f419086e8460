"""The one door through which answers and offsets leave: what a lane needs, whatever the delivery promise."""

from collections.abc import Sequence
from typing import Protocol

from daemon.kafka.progress.offsets import Mark
from daemon.kafka.record import Outgoing


class LanePublisher(Protocol):
    """Publishes for one partition, one batch at a time."""

    async def publish(self, records: Sequence[Outgoing], mark: Mark) -> None:
        """Returns when the records are written and `mark` is committed, and never before.

        Raises LaneFenced when the partition is another's now, RecordsRefused when the brokers take no such
        records; nothing of the batch counts then.
        """

    async def close(self) -> None: ...


class Publisher(Protocol):
    """Opens the publishers of partitions as they are assigned."""

    async def open(self, topic: str, partition: int) -> LanePublisher:
        """Returns when no earlier owner of the partition can commit any more, if the promise needs that."""
