"""Commands that write to Kafka, on a broker that lacks what they need."""

import asyncio
import json
import struct

import pytest
from typer.testing import CliRunner

from daemon.cli import app
from daemon.cli.failures import KafkaRefused
from daemon.kafka.errors import NoSuchTopic
from daemon.kafka.publishing.deadletter import PREFIX
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


def letter(topic, partition, message=b""):
    headers = (
        (f"{PREFIX}original-topic", topic.encode()),
        (f"{PREFIX}original-partition", struct.pack(">i", partition)),
        (f"{PREFIX}exception-message", message),
    )
    return None, b"{}", headers


def test_letters_whose_place_is_gone_keep_no_other_back(kafka, name):
    (requests,) = kafka.request_topics
    create(kafka, requests)
    letters = [letter(requests, 7), letter(f"{name}.gone", 0), letter(requests, 0)]
    asyncio.run(create_topic(kafka.bootstrap_servers, kafka.dead_letter_topic))
    asyncio.run(put(kafka.bootstrap_servers, kafka.dead_letter_topic, letters))
    done = run("dlq", "replay", "--all")
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [f"0/2: sent to {requests}/0/1"]
    assert done.stderr.splitlines() == [
        f"0/0: not sent: {requests} has no partition 7; add it first",
        f"0/1: not sent: there is no topic {name}.gone; create it first",
        "1 of 3 sent",
    ]


def test_a_letter_is_listed_in_one_line(kafka):
    asyncio.run(create_topic(kafka.bootstrap_servers, kafka.dead_letter_topic))
    asyncio.run(put(kafka.bootstrap_servers, kafka.dead_letter_topic, [letter("r", 0, b"one\n0/9 two")]))
    (line,) = run("dlq", "list").stdout.splitlines()
    assert line.endswith(r"one\n0/9 two")
