"""From a request record to its reply record: decode, validate, let the agent work, encode, account."""

import json
import time
from typing import Any

import structlog
from pydantic import ValidationError

from daemon.agent.agent import Agent
from daemon.agent.job import Job
from daemon.errors import InvalidJson, InvalidRequest, PayloadTooLarge, ReplyTooLarge, UnknownReplyTopic
from daemon.kafka.deadletter import dead_letter
from daemon.kafka.envelope import Envelope
from daemon.kafka.record import Emit, Incoming, Outgoing
from daemon.kafka.replies import reply_record, request_id
from daemon.kafka.settings import KafkaSettings
from daemon.kafka.topics import Topics
from daemon.ops.metrics import Metrics
from daemon.settings import LimitSettings
from schemas.errors import AutoGLMError
from schemas.reply import Delta, Reply, Timings
from schemas.request import Request

log = structlog.get_logger("request")


class Handler:
    """Answers one record at a time, many at once; every record gets exactly one terminal reply."""

    def __init__(
        self, agent: Agent, topics: Topics, metrics: Metrics, kafka: KafkaSettings, limits: LimitSettings
    ) -> None:
        self._agent, self._topics, self._metrics = agent, topics, metrics
        self._kafka, self._limits = kafka, limits

    async def __call__(self, record: Incoming, emit: Emit) -> list[Outgoing]:
        """The records that end this request: its reply, and a dead letter when it could not be decoded."""
        arrived = time.monotonic()
        envelope = Envelope.of(record)
        self._metrics.in_flight.inc()
        try:
            topic, problem = await self._reply_topic(envelope)
            letter: Outgoing | None = None
            request: Request | None = None
            try:
                request = self._decode(record)
                if problem:
                    raise problem
            except (InvalidJson, PayloadTooLarge) as error:
                reply = self._refusal(record, envelope, request, error, arrived)
                letter = dead_letter(
                    record, self._kafka.dead_letter_topic, error, max_bytes=self._kafka.max_record_bytes
                )
            except AutoGLMError as error:
                reply = self._refusal(record, envelope, request, error, arrived)
            else:
                reply = await self._answer(record, envelope, request, topic, emit, arrived)
        finally:
            self._metrics.in_flight.dec()
        value = self._encode(reply)
        self._account(reply, record)
        answer = reply_record(record, envelope, topic, value)
        return [answer] if letter is None else [answer, letter]
