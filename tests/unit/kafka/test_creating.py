"""What is made of the brokers' refusal to create a topic."""

from types import SimpleNamespace

import pytest
from aiokafka.errors import (
    InvalidReplicationFactorError,
    InvalidTopicError,
    NotControllerError,
    PolicyViolationError,
    RequestTimedOutError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
)

from daemon.kafka.brokers.producer import may_pass
from daemon.kafka.brokers.topics import Topics
from daemon.kafka.errors import TopicMissing
from daemon.kafka.settings import KafkaSettings


@pytest.fixture
def create(monkeypatch):
    """await create(*errors): the brokers answer so, for a topic each."""

    async def create_(*errors):
        async def answer(_new):
            return SimpleNamespace(
                topic_errors=[(f"t{number}", error.errno, "So.") for number, error in enumerate(errors)]
            )

        topics = Topics(KafkaSettings())
        monkeypatch.setattr(topics._admin, "create_topics", answer)
        await topics._create([f"t{number}" for number in range(len(errors))], 1, {})

    return create_


@pytest.mark.parametrize("error", [InvalidReplicationFactorError, RequestTimedOutError, NotControllerError])
async def test_what_a_cluster_that_is_half_up_refuses_is_tried_again(create, error):
    with pytest.raises(
        error, match=r"t1 could not be created yet: So\. Check .* `kafka\.replication_factor`"
    ) as caught:
        await create(TopicAlreadyExistsError, error)
    assert may_pass(caught.value)


@pytest.mark.parametrize("error", [InvalidTopicError, PolicyViolationError, TopicAuthorizationFailedError])
async def test_what_brokers_never_create_ends_the_start(create, error):
    with pytest.raises(TopicMissing, match=rf"t1 could not be created \({error.__name__}: So\.\); create it"):
        await create(RequestTimedOutError, error)


async def test_a_topic_that_another_daemon_has_created_is_fine(create):
    await create(TopicAlreadyExistsError)
