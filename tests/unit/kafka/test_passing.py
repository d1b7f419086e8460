"""What may pass when records are sent, fails no request and does not end the daemon."""

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import ClusterAuthorizationFailedError, UnknownTopicOrPartitionError

from daemon.kafka.brokers.producer import send
from daemon.kafka.errors import LaneFenced
from daemon.kafka.progress.offsets import Mark
from daemon.kafka.publishing import at_least_once
from daemon.kafka.publishing.at_least_once import AtLeastOnceLane
from daemon.kafka.publishing.deltas import Deltas
from daemon.kafka.record import Incoming, Outgoing

RECORD = Outgoing("replies", None, b"reply", partition=3)


class Grown:
    """A client whose topic has more partitions than it knew when it last looked."""

    def __init__(self, known: int, there: int) -> None:
        self.known, self.there = known, there
        self.client = self
        self.sent: list[int] = []

    async def partitions_for(self, topic):
        return set(range(self.known))

    async def force_metadata_update(self):
        self.known = self.there

    async def send(self, topic, *, partition, **_):
        assert partition in range(self.known), "Unrecognized partition"
        self.sent.append(partition)


class Shared:
    """Fails with one after another, then takes what comes."""

    def __init__(self, *fails: Exception) -> None:
        self.fails = list(fails)
        self.taken: list[Outgoing] = []

    async def send_all(self, records):
        if self.fails:
            raise self.fails.pop(0)
        self.taken += records


class Answers:
    async def route(self, record, output):
        return output


def lane(producer: Shared) -> tuple[AtLeastOnceLane, list[object]]:
    committed: list[object] = []

    async def commit(offsets):
        committed.append(offsets)

    return AtLeastOnceLane(producer, commit, None, TopicPartition("t", 0)), committed


async def test_a_partition_that_was_added_is_looked_for():
    producer = Grown(known=2, there=4)
    await send(producer, RECORD)
    assert producer.sent == [3]


async def test_a_partition_that_is_not_there_is_named():
    with pytest.raises(UnknownTopicOrPartitionError, match="replies has no partition 3"):
        await send(Grown(known=2, there=3), RECORD)


async def test_replies_are_sent_again_after_an_assertion_of_the_client(monkeypatch):
    monkeypatch.setattr(at_least_once, "_RETRY_SECONDS", 0.0)
    producer = Shared(AssertionError("Did we not perform bootstrap?"))
    one, committed = lane(producer)
    await one.publish([RECORD], Mark(1))
    assert producer.taken == [RECORD] and len(committed) == 1


async def test_what_the_daemons_user_may_never_do_is_not_tried_for_ever():
    one, committed = lane(Shared(ClusterAuthorizationFailedError()))
    with pytest.raises(ClusterAuthorizationFailedError):
        await one.publish([RECORD], Mark(1))
    assert not committed


async def test_replies_for_a_partition_that_is_not_there_are_given_back():
    one, committed = lane(Shared(UnknownTopicOrPartitionError()))
    with pytest.raises(LaneFenced):
        await one.publish([RECORD], Mark(1))
    assert not committed


@pytest.mark.parametrize("error", [AssertionError("Did we not perform bootstrap?"), TimeoutError()])
async def test_a_delta_that_the_client_does_not_take_is_lost_and_fails_nothing(error):
    async def unable(record):
        raise error

    deltas = Deltas(Incoming("t", 0, 0, None, b"", (), 0), Answers(), unable)
    await deltas(RECORD)
    await deltas.flush()


async def test_a_mistake_of_ours_is_no_lost_delta():
    async def wrong(record):
        raise TypeError

    with pytest.raises(TypeError):
        await Deltas(Incoming("t", 0, 0, None, b"", (), 0), Answers(), wrong)(RECORD)
