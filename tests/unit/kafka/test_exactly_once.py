"""What one transaction carries."""

import asyncio

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import ProducerFenced

from daemon.kafka.errors import LaneFenced
from daemon.kafka.progress.offsets import Mark
from daemon.kafka.publishing.exactly_once import TransactionalLane
from daemon.kafka.record import Outgoing


class Producer:
    """Notes what it is asked for; fails at `fails`."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.fails: str | None = None

    async def begin_transaction(self):
        self.asked.append("begin")

    async def send_offsets_to_transaction(self, offsets, group_id):
        [(offset, metadata)] = offsets.values()
        self.asked.append((offset, metadata))

    async def send(self, topic, value, **_):
        self.asked.append(value)

        async def acknowledged():
            return None

        return acknowledged()

    async def commit_transaction(self):
        if self.fails == "for ever":
            await asyncio.Event().wait()
        if self.fails:
            raise ProducerFenced
        self.asked.append("commit")


def lane(limit: float = 15.0) -> tuple[TransactionalLane, Producer]:
    producer = Producer()
    return TransactionalLane(producer, TopicPartition("t", 0), "group", limit), producer


async def test_offsets_are_sent_when_they_have_moved():
    one, producer = lane()
    await one.publish([], Mark(3, "m"))
    await one.publish([Outgoing("notes", b"k", b"intent")], Mark(3, "m"))
    await one.publish([Outgoing("replies", b"k", b"reply")], Mark(4))
    first, second, third = ("begin", (3, "m"), "commit"), ("begin", b"intent", "commit"), {b"reply", (4, "")}
    assert tuple(producer.asked[:6]) == (*first, *second)
    assert set(producer.asked[7:9]) == third


async def test_a_refused_transaction_has_committed_nothing():
    one, producer = lane()
    producer.fails = "commit"
    with pytest.raises(LaneFenced):
        await one.publish([], Mark(3))
    producer.fails = None
    await one.publish([], Mark(3))
    assert producer.asked.count((3, "")) == 2


async def test_a_transaction_that_does_not_end_is_given_up():
    one, producer = lane(limit=0.05)
    producer.fails = "for ever"
    with pytest.raises(LaneFenced, match=r"not done after 0\.05 s"):
        await one.publish([], Mark(3))
