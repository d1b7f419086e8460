"""From a request record to its reply record: decode, let the agent work, encode, account."""

import time

import structlog
from pydantic import ValidationError

from daemon.agent.agent import Agent
from daemon.agent.job import Job
from daemon.errors import InvalidJson, InvalidRequest, PayloadTooLarge, RetriesExhausted
from daemon.kafka.backoff import backoff_seconds
from daemon.kafka.envelope import Envelope
from daemon.kafka.publishing.deadletter import dead_letter
from daemon.kafka.record import Emit, Incoming, Outgoing, Postponed
from daemon.kafka.replies import refusal, reply_record, request_id
from daemon.kafka.settings import KafkaSettings
from daemon.memory.place import Place
from daemon.ops.metrics import Metrics
from daemon.settings import LimitSettings
from schemas.errors import AutoGLMError
from schemas.reply import Delta, Reply
from schemas.request import Request

log = structlog.get_logger("request")

# A wrong request may have a thousand problems; the first few are enough to mend it.
_PROBLEMS_TOLD = 3


class Handler:
    """Called by many lanes at once, once per delivery of a record; answers every record."""

    def __init__(self, agent: Agent, metrics: Metrics, kafka: KafkaSettings, limits: LimitSettings) -> None:
        self._agent, self._metrics = agent, metrics
        self._kafka, self._limits = kafka, limits

    async def __call__(self, record: Incoming, emit: Emit) -> list[Outgoing]:
        """The records that end this request: its reply, and a dead letter when it could not be decoded or
        all tries failed. Raises Postponed when another try may help.
        """
        with self._metrics.in_flight.track_inprogress():
            envelope = Envelope.of(record)
            letters: list[Outgoing] = []
            try:
                request = decode(record.value or b"", self._limits.request_bytes)
            except AutoGLMError as error:
                reply = refusal(record, envelope, error)
                letters.append(self._letter(record, error))
            else:
                job = self._job(record, envelope, request, emit)
                try:
                    reply = await self._agent.run(job)
                except AutoGLMError as error:
                    raise self._postponed(record, error) from error
                if reply.error and reply.error.retryable and record.tries > 1:
                    exhausted = RetriesExhausted(
                        f"Failed {record.tries} times, last with {reply.error.code.value}: "
                        f"{reply.error.message}",
                        retry_after_seconds=reply.error.retry_after_seconds,
                    )
                    reply = reply.model_copy(update={"status": "error", "error": exhausted.body()})
                    letters.append(self._letter(record, exhausted))
            self._account(reply, record)
            return [self._outgoing(record, envelope, reply), *letters]

    def refused(self, record: Incoming, error: AutoGLMError) -> None:
        """Account for a request that was answered with `error` without coming here."""
        self._account(refusal(record, Envelope.of(record), error), record)

    def _account(self, reply: Reply, record: Incoming) -> None:
        self._metrics.count(reply)
        _log(reply, record)

    def _postponed(self, record: Incoming, error: AutoGLMError) -> Postponed:
        kafka = self._kafka
        seconds = backoff_seconds(
            record.tries,
            kafka.retry_backoff_seconds,
            kafka.retry_backoff_max_seconds,
            error.retry_after_seconds,
        )
        log.warning(
            "request_postponed",
            record=record.address,
            tries=record.tries,
            seconds=round(seconds, 3),
            code=error.code.value,
            error=str(error),
        )
        return Postponed(seconds)

    def _job(self, record: Incoming, envelope: Envelope, request: Request, emit: Emit) -> Job:
        async def publish(delta: Delta) -> None:
            await emit(self._outgoing(record, envelope, delta))

        left = None if envelope.deadline is None else envelope.deadline - time.time()
        return Job(
            request=request,
            id=request.id or request_id(record, envelope),
            key=record.address,
            arrived=record.received,
            deadline=None if left is None else time.monotonic() + left,
            priority=envelope.priority,
            attempt=record.attempt,
            emit=publish,
            notes=record.notes,
            topic=record.topic,
            tenant=envelope.tenant,
            place=Place.of(record, self._kafka.group_id, envelope.tenant, request.user_id),
            conversation=record.key,
            cancelled=record.cancelled,
            last_try=record.tries > self._kafka.max_retries,
            headers={"traceparent": envelope.traceparent} if envelope.traceparent else {},
        )

    def _outgoing(self, record: Incoming, envelope: Envelope, body: Reply | Delta) -> Outgoing:
        topic = envelope.reply_topic or self._kafka.reply_topic
        return reply_record(record, envelope, topic, body.model_dump_json(exclude_none=True).encode())

    def _letter(self, record: Incoming, error: AutoGLMError) -> Outgoing:
        return dead_letter(record, self._kafka.dead_letter_topic, error)


def decode(value: bytes, limit_bytes: int) -> Request:
    """The request in a record's value. Raises PayloadTooLarge, InvalidJson, InvalidRequest."""
    if len(value) > limit_bytes:
        raise PayloadTooLarge(
            f"The record has {len(value)} bytes, `limits.request_bytes` allows {limit_bytes}; send less text."
        )
    try:
        return Request.model_validate_json(value)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
    if problems[0]["type"] == "json_invalid":
        raise InvalidJson(f"The value is no JSON object: {problems[0]['msg']}; send one per record.")
    told = [
        ": ".join(filter(None, (".".join(map(str, problem["loc"])), problem["msg"])))
        for problem in problems[:_PROBLEMS_TOLD]
    ]
    more = f" and {len(problems) - len(told)} more" if len(problems) > len(told) else ""
    raise InvalidRequest(
        f"The request is not valid: {'; '.join(told)}{more}; see schemas/json/request.schema.json."
    )


def _log(reply: Reply, record: Incoming) -> None:
    """The one canonical line of a request."""
    fields = {
        "id": reply.id,
        "status": reply.status,
        "task": reply.task,
        "engine": reply.model,
        "record": record.address,
        "attempt": reply.attempt,
        "tools": [f"{report.name}:{report.outcome}" for report in reply.tools],
        **reply.usage.model_dump(),
        **reply.timings.model_dump(exclude_none=True),
    }
    if reply.error:
        fields |= {"code": reply.error.code.value, "error": reply.error.message}
    log.info("request", **fields)
