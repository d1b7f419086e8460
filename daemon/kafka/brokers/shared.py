"""The producer of everything that leaves outside transactions."""

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import ProducerClosed

from daemon.kafka.brokers.producer import close, new_producer, send, send_all, start
from daemon.kafka.record import Outgoing
from daemon.kafka.settings import KafkaSettings

log = structlog.get_logger(__name__)

_FLUSH_SECONDS = 5.0
_START_SECONDS = 10.0


class SharedProducer:
    """Writes each record once and in order per partition, also while brokers go and come back.

    That takes an idempotent producer, which numbers its records. After a record that was refused the client
    goes on numbering as if it had been written, and the brokers take no more of that partition; so the
    producer is replaced by a new one then.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer = self._new()
        self._spoilt = False
        self._renewing = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Raises aiokafka's KafkaError when the brokers cannot be reached."""
        await start(self._producer, _START_SECONDS)

    async def stop(self) -> None:
        """Flush and close; brokers that do not answer are not waited for for ever."""
        await asyncio.gather(close(self._producer), *self._retiring, return_exceptions=True)

    async def send(self, record: Outgoing) -> "asyncio.Future[object]":
        """The future is done when the brokers have the record. Both raise aiokafka's KafkaError: records
        that wait behind a refused one fail with OutOfOrderSequenceNumber, and may be sent again.
        """
        while True:
            if self._spoilt:
                await self._renew()
            producer = self._producer
            try:
                future = await send(producer, record)
            except ProducerClosed:
                if producer is self._producer:
                    raise
                continue  # replaced while the record waited for room there: it was not taken
            future.add_done_callback(partial(self._sent, producer))
            return future

    async def send_all(self, records: Sequence[Outgoing]) -> None:
        """Returns when the brokers have all of them, in this order per partition; raises a failure."""
        await send_all(self.send, records)

    def _new(self) -> AIOKafkaProducer:
        return new_producer(self._settings, enable_idempotence=True)

    def _sent(self, producer: AIOKafkaProducer, future: "asyncio.Future[object]") -> None:
        if not future.cancelled() and future.exception() is not None and producer is self._producer:
            self._spoilt = True

    async def _renew(self) -> None:
        async with self._renewing:
            if not self._spoilt:
                return
            old = self._producer
            with contextlib.suppress(TimeoutError):  # its other brokers may be away; these ones are not
                async with asyncio.timeout(_FLUSH_SECONDS):
                    await old.flush()  # what comes next should not overtake it
            fresh = self._new()
            await start(fresh, _START_SECONDS)
            self._producer, self._spoilt = fresh, False
            log.warning("producer_replaced", reason="a record was refused")
            task = asyncio.create_task(close(old))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
