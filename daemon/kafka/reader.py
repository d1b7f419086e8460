"""aiokafka's consumer, with what we had to mend."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    KafkaError,
    NotCoordinatorForGroupError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.structs import OffsetAndMetadata

from daemon.kafka.entered import Entered
from daemon.kafka.header_names import accept_any_header_name

accept_any_header_name()
_RETRY_SECONDS = 0.1


class Reader(Entered, AIOKafkaConsumer):  # type: ignore[misc]
    """Reads records whose header names are not UTF-8, and may be stopped right after `start`."""

    async def committed_mark(self, partition: TopicPartition) -> OffsetAndMetadata | None:
        """What the group has committed of a partition, None where it has nothing; waits for its coordinator.

        The client's own call leaves out the metadata, and the one behind that takes a coordinator that is
        just loading, or has moved, for one that knows of no offset: since version 2 of the protocol such an
        error belongs to the whole response, where aiokafka 0.14 does not look. Everything from the topic's
        beginning would then be done again. Raises aiokafka's KafkaError for what does not pass.
        """
        coordinator = self._coordinator
        request = OffsetFetchRequest(coordinator.group_id, [(partition.topic, [partition.partition])])
        while True:
            await coordinator.ensure_coordinator_known()
            try:
                return _mark(await coordinator._send_req(request))
            except KafkaError as error:
                if not error.retriable or isinstance(error, UnknownTopicOrPartitionError):
                    raise
                if isinstance(error, NotCoordinatorForGroupError):
                    coordinator.coordinator_dead()
                await asyncio.sleep(_RETRY_SECONDS)

    def read_to(self, partition: TopicPartition) -> int:
        """The offset from which an assigned partition is read on; 0 while that is not known."""
        state = self._subscription.subscription.assignment.state_value(partition)
        return state.position if state.has_valid_position else 0

    async def stop(self) -> None:
        # Right after `start` the client cancels a task that never ran and lets its CancelledError out, as if
        # the caller had been cancelled: that is not passed on.
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        try:
            await super().stop()
        except asyncio.CancelledError:
            if task is None or task.cancelling() > before:
                raise


def _mark(response: Any) -> OffsetAndMetadata | None:
    found = [partition for _, partitions in response.topics for partition in partitions]
    for code in (getattr(response, "error_code", 0), *(code for *_, code in found)):
        if code:
            raise for_code(code)
    marks = [OffsetAndMetadata(offset, metadata or "") for _, offset, metadata, _ in found if offset >= 0]
    return marks[0] if marks else None
