"""The control topic: every daemon reads all of it, from its end on, without a group."""

import asyncio
from collections.abc import Callable

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import ConsumerStoppedError
from pydantic import TypeAdapter, ValidationError

from daemon.kafka.brokers.reader import stop_reader
from daemon.kafka.intake.cancellations import Cancellation
from daemon.kafka.settings import KafkaSettings
from schemas.control import Cancel, EngineOrder
from schemas.control import Control as Record

_POLL_MILLISECONDS = 500
log = structlog.get_logger(__name__)
_RECORD: TypeAdapter[Cancel | EngineOrder] = TypeAdapter(Record)


class Control:
    """Tells `on_cancel` of every cancel and `on_order` of every other order that comes after `start`. What it
    cannot read it logs and skips."""

    def __init__(
        self,
        settings: KafkaSettings,
        on_cancel: Callable[[Cancellation], None],
        on_order: Callable[[EngineOrder], None],
    ) -> None:
        self._on_cancel, self._on_order = on_cancel, on_order
        self._consumer = AIOKafkaConsumer(
            settings.control_topic,
            **settings.connection(),
            enable_auto_commit=False,
            auto_offset_reset="latest",
            isolation_level="read_committed",
        )

    async def start(self) -> None:
        """Whatever is written after this returns is read. Raises aiokafka's KafkaError."""
        await self._consumer.start()
        await asyncio.gather(*[self._consumer.position(one) for one in self._consumer.assignment()])

    async def run(self) -> None:
        """Returns after `stop`."""
        while True:
            try:
                batches = await self._consumer.getmany(timeout_ms=_POLL_MILLISECONDS)
            except ConsumerStoppedError:
                return
            for records in batches.values():
                for record in records:
                    self._read(record)

    async def stop(self) -> None:
        await stop_reader(self._consumer)

    def _read(self, record: ConsumerRecord) -> None:
        try:
            read = _RECORD.validate_json(record.value or b"")
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]["msg"]
            log.warning("control_record_ignored", offset=record.offset, problem=problem)
            return
        if isinstance(read, Cancel):
            self._on_cancel(Cancellation(read.id, read.correlation_id, record.key))
        else:
            log.info("order", type=read.type, offset=record.offset)
            self._on_order(read)
