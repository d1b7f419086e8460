"""What leaves can arrive, or something that can takes its place."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.errors import InvalidJson
from daemon.kafka.brokers.topics import Topic
from daemon.kafka.envelope import Envelope
from daemon.kafka.progress.suspects import Condemned
from daemon.kafka.publishing.answers import Answers
from daemon.kafka.publishing.deadletter import dead_letter, size_bytes
from daemon.kafka.record import Incoming, Outgoing
from daemon.kafka.replies import error_reply, reply_record
from daemon.kafka.settings import KafkaSettings

CHOSEN = KafkaSettings()
NAMES = [
    "mine",
    "correlation-id",
    "kafka_correlationId",
    "ce_id",
    "traceparent",
    "tracestate",
    "kafka_dlt-mine",
]


class Topics(dict):
    async def find(self, name):
        return self.get(name)


def incoming(value: bytes) -> Incoming:
    return Incoming("q" * 249, 3, 4, b"k", value, (), 0)


@pytest.fixture
def answers():
    def answers_(**topics):
        known = {CHOSEN.reply_topic: Topic(4, 10_000), CHOSEN.dead_letter_topic: Topic(4, 2_000)}
        return Answers(CHOSEN, Topics({name: topic for name, topic in (known | topics).items() if topic}))

    return answers_


async def test_a_letter_is_cut_to_what_its_topic_takes(answers):
    record = incoming(b"x" * 5_000)
    [letter] = await answers().admit(record, [dead_letter(record, CHOSEN.dead_letter_topic, InvalidJson())])
    assert letter.topic == CHOSEN.dead_letter_topic
    assert size_bytes(letter) <= 2_000
    assert dict(letter.headers)["kafka_dlt-truncated"] == b"5000"
    assert dict(letter.headers)["kafka_dlt-original-offset"]


@pytest.mark.parametrize("size", [1, 50_000])
async def test_compacted_topics_of_ours_get_a_key_with_everything(answers, size):
    record = replace(incoming(b"x" * size), key=None)
    compacted = {CHOSEN.reply_topic: Topic(4, 10_000, True), CHOSEN.dead_letter_topic: Topic(4, 2_000, True)}
    reply = Outgoing(CHOSEN.reply_topic, None, b"x" * size)
    admitted = await answers(**compacted).admit(
        record, [reply, dead_letter(record, CHOSEN.dead_letter_topic, InvalidJson())]
    )
    delta = await answers(**compacted).route(record, Outgoing(CHOSEN.reply_topic, None, b"{}"))
    assert [(one.key, one.partition) for one in (*admitted, delta)] == [(record.address.encode(), None)] * 3
    assert all(size_bytes(one) <= most for one, most in zip(admitted, (10_000, 2_000), strict=True))


async def test_a_letter_without_a_topic_makes_no_second_reply(answers):
    record = incoming(b"{")
    outputs = answers().failure(record, InvalidJson())
    [reply] = await answers(**{CHOSEN.dead_letter_topic: None}).admit(record, outputs)
    assert (reply.topic, json.loads(reply.value)["status"]) == (CHOSEN.reply_topic, "rejected")


async def test_a_reply_whose_topic_is_gone_goes_to_the_default_one_and_is_kept(answers):
    record = incoming(b"x" * 5_000)
    reply, letter = await answers().admit(record, [Outgoing("gone", b"k", b"{}")])
    assert (reply.topic, letter.topic) == (CHOSEN.reply_topic, CHOSEN.dead_letter_topic)
    assert json.loads(reply.value)["error"]["code"] == "unknown_reply_topic"
    assert size_bytes(letter) <= 2_000


async def test_without_a_default_topic_the_reply_waits_for_it(answers):
    record = incoming(b"{}")
    found = await answers(**{CHOSEN.reply_topic: None}).admit(
        record, [Outgoing(CHOSEN.reply_topic, b"k", b"{}")]
    )
    assert [output.value for output in found] == [b"{}"]


@pytest.mark.parametrize("id_", [rb"\ud83d", r"\udc00x", "", "x" * 10])
def test_whatever_the_id_is_an_error_can_be_written(id_):
    value = b'{"id": "%s", "query": "x"}' % (id_ if isinstance(id_, bytes) else id_.encode())
    record = incoming(value)
    reply = error_reply(record, Envelope.of(record), "replies", InvalidJson())
    assert json.loads(reply.value)["id"] in (record.address, "x" * 10)


@pytest.mark.parametrize(
    ("topics", "refused", "theirs"),
    [
        (["mine"], ["mine"], True),
        (["mine", "other"], [], True),  # either may be meant: they are tried one by one next
        ([], [], False),
    ],
)
def test_what_the_brokers_refuse_is_held_against_the_one_topic_that_a_caller_chose(topics, refused, theirs):
    known = Topics()
    found: list[str] = []
    known.refuse = found.append
    records = [Outgoing(topic, b"k", b"{}") for topic in (*topics, CHOSEN.reply_topic, CHOSEN.journal_topic)]
    assert Answers(CHOSEN, known).refuse(records) is theirs
    assert found == refused


SIZES = st.integers(0, 10_000)


@settings(max_examples=200, deadline=None)
@given(
    limits=st.tuples(st.integers(2_500, 10_000), st.integers(2_500, 10_000)),
    sizes=st.lists(SIZES, min_size=3, max_size=3),
    headers=st.lists(st.tuples(st.sampled_from(NAMES), SIZES), max_size=6),
    name_size=SIZES,
    binary=st.booleans(),
    failed=st.booleans(),
)
async def test_whatever_a_request_carries_its_answers_fit_and_a_letter_stays_one(
    limits, sizes, headers, name_size, binary, failed
):
    key, id_, reply = sizes
    carried = tuple((name, (b"\xff" if binary else b"c") * size) for name, size in headers)
    record = Incoming(
        "q" * 249, 3, 4, b"k" * key, b'{"id": "%s"}' % (b"i" * id_), (*carried, ("n" * name_size, b"")), 0
    )
    topics = {
        topic: Topic(4, limit)
        for topic, limit in zip((CHOSEN.reply_topic, CHOSEN.dead_letter_topic), limits, strict=True)
    }
    answers = Answers(CHOSEN, Topics(topics))
    outputs = answers.failure(record, Condemned())
    if not failed:
        outputs[0] = reply_record(record, Envelope.of(record), CHOSEN.reply_topic, b"x" * reply)
    answer, letter = await answers.admit(record, outputs)
    assert (answer.topic, letter.topic) == (CHOSEN.reply_topic, CHOSEN.dead_letter_topic)
    for admitted in (answer, letter):
        assert size_bytes(admitted) <= topics[admitted.topic].max_bytes
    said = dict(letter.headers)
    assert said["kafka_dlt-original-offset"] == (4).to_bytes(8, "big")
    assert said["kafka_dlt-exception-code"] == Condemned.code.value.encode()
    assert record.value.startswith(letter.value)
    assert "kafka_dlt-truncated" in said or letter.value == record.value


async def test_a_reply_that_cannot_hold_the_callers_ids_is_given_under_the_records_address(answers):
    record = replace(incoming(b'{"id": "mine"}'), headers=(("kafka_correlationId", b"\xff" * 6_000),))
    reply, letter = await answers().admit(record, answers().failure(record, InvalidJson()))
    assert (reply.key, json.loads(reply.value)["id"]) == (b"k", record.address)
    assert [name for name, _ in reply.headers] == ["reply-id"]
    assert (letter.value, dict(letter.headers)["kafka_dlt-headers-dropped"]) == (record.value, b"1")
