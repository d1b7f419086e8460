"""The offset of a group, from a coordinator that is not ready at first."""

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError, KafkaConnectionError, UnknownTopicOrPartitionError
from aiokafka.protocol.commit import OffsetFetchResponse_v1, OffsetFetchResponse_v3
from aiokafka.structs import OffsetAndMetadata

from daemon.kafka import reader as room
from daemon.kafka.reader import Reader

PARTITION = TopicPartition("requests", 3)
FOUND = OffsetFetchResponse_v3(0, [("requests", [(3, 42, "map", 0)])], 0)


class Coordinator:
    group_id = "daemons"

    def __init__(self, *answers):
        self.answers, self.deaths = list(answers), 0

    async def ensure_coordinator_known(self):
        pass

    def coordinator_dead(self):
        self.deaths += 1

    async def _send_req(self, request):
        assert request._partitions == [("requests", [3])]
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(room, "_RETRY_SECONDS", 0.0)


async def mark(*answers):
    reader = Reader(bootstrap_servers="127.0.0.1:1", group_id="daemons")
    reader._coordinator = coordinator = Coordinator(*answers)
    try:
        return await reader.committed_mark(PARTITION)
    finally:
        assert not coordinator.answers
        reader._closed = True  # it never was open


async def test_an_offset_and_its_metadata():
    assert await mark(FOUND) == OffsetAndMetadata(42, "map")


@pytest.mark.parametrize("answer", [[("requests", [(3, -1, "", 0)])], []])
async def test_none_where_nothing_is_committed(answer):
    assert await mark(OffsetFetchResponse_v3(0, answer, 0)) is None


@pytest.mark.parametrize(
    "answer",
    [
        OffsetFetchResponse_v3(0, [], 14),  # it is loading
        OffsetFetchResponse_v3(0, [], 16),  # it has moved
        OffsetFetchResponse_v1([("requests", [(3, -1, "", 14)])]),
        KafkaConnectionError("gone"),
    ],
)
async def test_a_coordinator_that_is_not_ready_is_asked_again(answer):
    assert await mark(answer, FOUND) == OffsetAndMetadata(42, "map")


async def test_what_does_not_pass_is_raised():
    with pytest.raises(GroupAuthorizationFailedError):
        await mark(OffsetFetchResponse_v3(0, [], 30))
    with pytest.raises(UnknownTopicOrPartitionError):
        await mark(OffsetFetchResponse_v3(0, [("requests", [(3, -1, "", 3)])], 0))
