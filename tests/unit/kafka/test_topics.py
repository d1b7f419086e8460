"""What is known of a topic is what a broker said of it."""

from types import SimpleNamespace

import pytest
from aiokafka.errors import (
    NodeNotReadyError,
    NotControllerError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from structlog.testing import capture_logs

from daemon.kafka.brokers.topics import Topic, Topics
from daemon.kafka.settings import KafkaSettings

CHOSEN = KafkaSettings()
FALLBACK, TOLD = Topic(1, CHOSEN.max_record_bytes), Topic(1, 10_000_000, compacted=True)


class Admin:
    """Answers the first question with an error, later ones with what the topic is like."""

    def __init__(self, error, *, raised):
        self.error, self.raised, self.asked = error, raised, 0

    async def describe_topics(self, _):
        return [{"topic": "wide", "partitions": [0]}]

    async def describe_configs(self, _):
        self.asked += 1
        code, entries = 0, [("max.message.bytes", "10000000"), ("cleanup.policy", "compact")]
        if self.asked == 1:
            if self.raised:
                raise self.error
            code, entries = self.error.errno, []
        return [SimpleNamespace(resources=[(code, "", 2, "wide", entries)])]


@pytest.mark.parametrize(
    ("error", "raised", "then", "asked"),
    [
        (NodeNotReadyError(), True, TOLD, 2),
        (NotControllerError(), False, TOLD, 2),
        (UnknownTopicOrPartitionError(), False, TOLD, 2),
        (TopicAuthorizationFailedError(), False, FALLBACK, 1),
    ],
)
async def test_the_fallback_is_kept_only_where_we_may_not_ask(monkeypatch, error, raised, then, asked):
    topics = Topics(CHOSEN)
    admin = Admin(error, raised=raised)
    monkeypatch.setattr(topics, "_admin", admin)
    with capture_logs() as logs:
        assert await topics.find("wide") == FALLBACK
    # A topic that was made a moment ago is nothing to warn of.
    assert bool(logs) == isinstance(error, NodeNotReadyError | NotControllerError)
    assert [await topics.find("wide") for _ in range(2)] == [then, then]
    assert admin.asked == asked
