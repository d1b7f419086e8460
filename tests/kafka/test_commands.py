"""Commands that write to Kafka, on a broker that lacks what they need."""

import asyncio
import json

import pytest
from typer.testing import CliRunner

from daemon.cli import app
from daemon.cli.failures import KafkaRefused
from daemon.kafka.errors import NoSuchTopic
from tests.kafka.test_daemon import environment
from tests.kafka.traffic import create_topic, put, read, settings


@pytest.fixture
def kafka(broker, name, tmp_path, monkeypatch):
    """Topics that nobody has created; commands are told to use them."""
    chosen = settings(broker.bootstrap_servers, name)
    for variable, value in environment(chosen, tmp_path).items():
        monkeypatch.setenv(variable, value)
    return chosen


def create(kafka, *topics):
    """Returns when the broker lists them, which is a little later than their creation."""
    for topic in topics:
        asyncio.run(create_topic(kafka.bootstrap_servers, topic))
        asyncio.run(put(kafka.bootstrap_servers, topic, [(None, b"{}")]))


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    ("arguments", "topics"),
    [
        (("ask", "hello", "--timeout", "1"), "{0}.requests, {0}.replies"),
        (("cancel", "r1"), "{0}.control"),
        (("engine", "reload"), "{0}.control"),
    ],
)
def test_a_missing_topic_is_named_with_the_remedy(kafka, name, arguments, topics):
    done = run(*arguments)
    assert isinstance(done.exception, NoSuchTopic)
    assert str(done.exception).startswith(f"There is no topic {topics.format(name)}; start the daemon")


def test_what_the_brokers_refuse_is_a_sentence(kafka):
    create(kafka, kafka.request_topics[0], kafka.reply_topic)
    done = run("ask", "a" * 1_100_000)
    assert isinstance(done.exception, KafkaRefused)
    assert "MessageSizeTooLargeError" in str(done.exception)


def test_a_cancel_is_written(kafka):
    create(kafka, kafka.control_topic)
    assert run("cancel", "r1", "--key", "k").exit_code == 0
    _, record = asyncio.run(read(kafka.bootstrap_servers, kafka.control_topic, 2))
    assert (record.key, json.loads(record.value)) == (b"k", {"type": "cancel", "id": "r1"})
