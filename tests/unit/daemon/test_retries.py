"""What may pass is tried again, what may not is answered, and nothing is tried for ever."""

import json
from types import SimpleNamespace

import pytest

from daemon.agent.agent import Agent
from daemon.errors import EngineInterrupted
from daemon.handler import Handler
from daemon.kafka.backoff import backoff_seconds
from daemon.kafka.record import Incoming, Postponed
from daemon.kafka.settings import KafkaSettings
from daemon.ops.metrics import Metrics
from daemon.settings import LimitSettings
from daemon.tools.registry import Registry
from engines.errors import EngineBusy, EngineFailed, GenerationFailed
from schemas.errors import AutoGLMError
from tests.single import single


class Task:
    """Fails with each of `errors` in turn."""

    def __init__(self, *errors: AutoGLMError, deltas: int = 0) -> None:
        self.errors, self.deltas = iter(errors), deltas

    def validate(self, request, registry): ...

    async def run(self, job, record, chat, registry):
        for _ in range(self.deltas):
            await job.stream(content="x")
        error = next(self.errors)
        self.engine.alive = not isinstance(error, EngineFailed)
        raise error


def handler(task: Task, **changes) -> Handler:
    task.engine = engine = SimpleNamespace(alive=True, tokenizer=SimpleNamespace(format=None))
    agent = Agent(single(engine), Registry(), tasks={"chat": task})
    return Handler(agent, Metrics("i"), KafkaSettings(**changes), LimitSettings())


def record(tries: int = 1, **more) -> Incoming:
    value = json.dumps({"query": "hello", **more}).encode()
    return Incoming("requests", 0, 7, b"k", value, (), 0, tries=tries)


async def emit(_):
    pass


async def test_what_may_pass_is_postponed_and_longer_each_time():
    handle = handler(Task(*[EngineBusy()] * 3), retry_backoff_seconds=1.0)
    waits = []
    for tries in (1, 2, 3):
        with pytest.raises(Postponed) as postponed:
            await handle(record(tries), emit)
        waits.append(postponed.value.seconds)
    assert 0.5 <= waits[0] <= 1.0 <= waits[1] <= 2.0 <= waits[2] <= 4.0


async def test_the_last_try_is_answered_and_kept():
    handle = handler(Task(EngineBusy("full")), max_retries=2)
    reply, letter = await handle(record(tries=3), emit)
    body = json.loads(reply.value)
    assert (body["status"], body["error"]["code"]) == ("error", "retries_exhausted")
    assert body["error"]["retryable"]
    assert body["error"]["message"] == "Failed 3 times, last with overloaded: full"
    assert (letter.topic, letter.value) == ("autoglm.dead-letters", record().value)
    assert dict(letter.headers)["kafka_dlt-exception-code"] == b"retries_exhausted"


async def test_what_may_not_pass_is_answered_at_once_under_its_own_code():
    (reply,) = await handler(Task(GenerationFailed()))(record(), emit)
    assert json.loads(reply.value)["error"]["code"] == "engine_failed"


async def test_without_retries_the_error_keeps_its_code():
    (reply,) = await handler(Task(EngineBusy()), max_retries=0)(record(), emit)
    body = json.loads(reply.value)
    assert (body["status"], body["error"]["code"]) == ("rejected", "overloaded")


async def test_what_was_streamed_is_not_said_again_unless_the_process_ends_anyway():
    (reply,) = await handler(Task(EngineBusy(), deltas=1))(record(stream=True), emit)
    assert json.loads(reply.value)["error"]["code"] == "overloaded"
    with pytest.raises(Postponed):
        await handler(Task(EngineFailed(), deltas=1))(record(stream=True), emit)


async def test_an_interrupted_request_goes_elsewhere_unless_something_was_seen_of_it():
    with pytest.raises(Postponed):
        await handler(Task(EngineInterrupted()))(record(stream=True), emit)
    (reply,) = await handler(Task(EngineInterrupted(), deltas=1))(record(stream=True), emit)
    error = json.loads(reply.value)["error"]
    assert (error["code"], error["retryable"]) == ("engine_failed", True)


async def test_retry_after_is_waited_for_and_told():
    busy = EngineBusy(retry_after_seconds=30.0)
    with pytest.raises(Postponed) as postponed:
        await handler(Task(busy))(record(), emit)
    assert postponed.value.seconds == 30.0
    reply, _ = await handler(Task(busy), max_retries=1)(record(tries=2), emit)
    assert json.loads(reply.value)["error"]["retry_after_seconds"] == 30.0


async def test_a_cancelled_record_is_answered_without_work():
    called_off = record()
    called_off.cancelled.set()
    (reply,) = await handler(Task())(called_off, emit)
    assert json.loads(reply.value)["status"] == "cancelled"


def test_backoff_is_bounded_however_many_tries():
    assert 5.0 <= backoff_seconds(10_000, 0.25, 10.0) <= 10.0
