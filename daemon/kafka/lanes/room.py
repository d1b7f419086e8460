"""What all lanes of the daemon share, and how one record is answered there."""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from daemon.kafka.brokers.producer import Send
from daemon.kafka.errors import HandlerFailed
from daemon.kafka.intake.cancellations import Cancellations
from daemon.kafka.intake.slots import Slots
from daemon.kafka.intake.waiting import Waiting
from daemon.kafka.progress.duplicates import First, fingerprinted
from daemon.kafka.publishing.answers import Answers
from daemon.kafka.publishing.deltas import Deltas
from daemon.kafka.record import Handler, Incoming, Outgoing, Postponed
from daemon.kafka.settings import KafkaSettings
from schemas.errors import AutoGLMError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answered:
    """`failure`: the handler has a bug; the daemon stops once the answer is out."""

    offset: int
    records: list[Outgoing]
    failure: HandlerFailed | None = None


@dataclass(frozen=True)
class Room:
    """`told` hears of every request that is answered with an error of this room's, not of the handler's."""

    settings: KafkaSettings
    handler: Handler
    send: Send
    answers: Answers
    slots: Slots
    cancellations: Cancellations
    request_bytes: int  # larger values are refused
    told: Callable[[Incoming, AutoGLMError], None]

    def waiting(self, record: Incoming) -> Waiting:
        """The record as it enters a lane; cancelled if a cancel overtook it."""
        settings = self.settings
        group = settings.group_id if settings.duplicate_window_seconds else None
        waiting = Waiting.of(
            record, unordered=settings.unordered, group=group, limit_bytes=self.request_bytes
        )
        if self.cancellations.claim(waiting):
            record.cancelled.set()
        return waiting

    async def answer(self, record: Incoming, fingerprint: bytes | None, first: First | None) -> Answered:
        """Give the `first` reply again, else have the handler work on it. Raises Postponed."""
        problem = await self.answers.problem(record)
        if problem is not None:
            return await self._refused(record, problem)
        outputs, failure = None, None
        if first is not None:
            log.info("duplicate", request=record.address, first=first.address)
            outputs = [first.again(record, self.settings.reply_topic)]
        if outputs is None:
            deltas = Deltas(record, self.answers, self.send)
            try:
                outputs = fingerprinted(await self.handler(record, deltas), fingerprint)
            except Postponed:
                await deltas.flush()
                raise
            except Exception as error:
                failure = HandlerFailed(f"The handler failed at {record.address}: {error!r}")
                failure.__cause__ = error
                self.told(record, HandlerFailed())
                outputs = self.answers.failure(record, HandlerFailed())
            await deltas.flush()
        return Answered(record.offset, await self.answers.admit(record, outputs), failure)

    async def refuse(self, record: Incoming, error: AutoGLMError) -> Answered:
        """Answer with `error` and a dead letter, without the handler."""
        log.error("request_refused", request=record.address, code=error.code.value, error=str(error))
        return await self._refused(record, await self.answers.problem(record) or error)

    async def _refused(self, record: Incoming, error: AutoGLMError) -> Answered:
        self.told(record, error)
        outputs = self.answers.failure(record, error)
        return Answered(record.offset, await self.answers.admit(record, outputs))
