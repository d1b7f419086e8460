"""Deltas to topics that are forbidden or too narrow."""

import asyncio

import pytest
from aiokafka.errors import MessageSizeTooLargeError, TopicAuthorizationFailedError

from daemon.kafka.publishing.deltas import Deltas
from daemon.kafka.record import Incoming, Outgoing

REQUEST = Incoming("t", 0, 0, None, b"", (), 0)
DELTA = Outgoing("chosen", None, b"delta")


class Answers:
    """Notes which topics are refused; nothing is routed there from then on."""

    def __init__(self) -> None:
        self.refused: list[str] = []

    async def route(self, record, output):
        return None if output.topic in self.refused else output

    def refuse(self, records):
        self.refused += [record.topic for record in records]


@pytest.mark.parametrize(
    ("error", "refused", "sent"),
    [(TopicAuthorizationFailedError(), ["chosen"], 2), (MessageSizeTooLargeError(), [], 4)],
)
async def test_nothing_more_is_sent_to_a_topic_that_is_forbidden(error, refused, sent):
    answers, futures = Answers(), []

    async def send(record):
        futures.append(asyncio.get_running_loop().create_future())
        return futures[-1]

    deltas = Deltas(REQUEST, answers, send)
    for _ in range(2):
        await deltas(DELTA)
    for future in futures:
        future.set_exception(error)
    await asyncio.sleep(0)
    for _ in range(2):
        await deltas(DELTA)
    assert (answers.refused, len(futures)) == (refused, sent)
    for future in futures[2:]:
        future.set_result(None)
    await deltas.flush()


async def test_a_topic_that_the_client_finds_forbidden_is_told_too():
    answers = Answers()

    async def send(record):
        raise TopicAuthorizationFailedError

    await Deltas(REQUEST, answers, send)(DELTA)
    assert answers.refused == ["chosen"]
