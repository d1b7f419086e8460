"""The control topic: every daemon reads all of it, without a group."""

import time
from collections.abc import Callable

import structlog
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import ConsumerStoppedError
from pydantic import TypeAdapter, ValidationError

from daemon.kafka.intake.cancellations import Cancellation
from daemon.kafka.reader import Reader
from daemon.kafka.settings import KafkaSettings
from schemas.control import Cancel, EngineOrder
from schemas.control import Control as Record

_POLL_MILLISECONDS = 500
log = structlog.get_logger(__name__)
_RECORD: TypeAdapter[Cancel | EngineOrder] = TypeAdapter(Record)


class Control:
    """Tells `on_cancel` of every cancel and `on_order` of every other order that comes after `start`; of
    cancels also what came in the `cancel_keep_seconds` before, while this process was not there to hear it.
    What it cannot read it logs and skips.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        on_cancel: Callable[[Cancellation], None],
        on_order: Callable[[EngineOrder], None],
    ) -> None:
        self._on_cancel, self._on_order = on_cancel, on_order
        self._keep_seconds = settings.cancel_keep_seconds
        self._ends: dict[TopicPartition, int] = {}  # where each partition ended at the start
        self._consumer = Reader(
            settings.control_topic,
            **settings.connection(),
            enable_auto_commit=False,
            auto_offset_reset="latest",
            isolation_level="read_committed",
        )

    async def start(self) -> None:
        """What came before is told when this returns, and whatever is written from then on is read by `run`.

        Raises aiokafka's KafkaError.
        """
        await self._consumer.start()
        self._ends = await self._consumer.end_offsets(self._consumer.assignment())
        since = int((time.time() - self._keep_seconds) * 1000)
        found = await self._consumer.offsets_for_times(dict.fromkeys(self._ends, since))
        for partition, end in self._ends.items():
            first = found.get(partition)
            self._consumer.seek(partition, first.offset if first else end)
        for partition, end in self._ends.items():
            while await self._consumer.position(partition) < end:
                await self._poll()

    async def run(self) -> None:
        """Returns after `stop`."""
        while True:
            try:
                await self._poll()
            except ConsumerStoppedError:
                return

    async def stop(self) -> None:
        await self._consumer.stop()

    async def _poll(self) -> None:
        for records in (await self._consumer.getmany(timeout_ms=_POLL_MILLISECONDS)).values():
            for record in records:
                self._read(record)

    def _read(self, record: ConsumerRecord) -> None:
        try:
            read = _RECORD.validate_json(record.value or b"")
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]["msg"]
            log.warning("control_record_ignored", offset=record.offset, problem=problem)
            return
        late = record.offset < self._ends.get(TopicPartition(record.topic, record.partition), 0)
        if isinstance(read, Cancel):
            until = record.timestamp if late else None
            self._on_cancel(Cancellation(read.id, read.correlation_id, record.key, until=until))
        elif not late:
            log.info("order", type=read.type, offset=record.offset)
            self._on_order(read)
