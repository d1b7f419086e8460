"""Headers of three dialects, and headers that are nonsense."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.kafka.envelope import Envelope
from daemon.kafka.record import Headers, Incoming


def envelope(*headers: tuple[str, bytes | None]) -> Envelope:
    return Envelope.of(incoming(headers))


def incoming(headers: Headers) -> Incoming:
    return Incoming("requests", 1, 2, b"key", b"{}", headers, 1_700_000_000_000)


def test_our_own_names():
    found = envelope(
        ("correlation-id", "früh".encode()),
        ("reply-topic", b"answers"),
        ("priority", b"-3"),
        ("deadline", b"1700000000.5"),
        ("traceparent", b"00-1-2-01"),
    )
    assert (found.correlation_id, found.reply_topic, found.priority) == ("früh", "answers", -3)
    assert found.deadline == 1700000000.5
    assert found.echo == (("correlation-id", "früh".encode()), ("traceparent", b"00-1-2-01"))


def test_spring_gets_its_binary_id_back_byte_for_byte():
    binary = bytes(range(0xF0, 0x100))
    found = envelope(
        ("kafka_correlationId", binary),
        ("kafka_replyTopic", b"answers"),
        ("kafka_replyPartition", b"\0\0\0\5"),
    )
    assert (found.correlation_id, found.reply_topic) == (binary.hex(), "answers")
    assert found.reply_partition == 5
    assert found.echo == (("correlation-id", binary), ("kafka_correlationId", binary))


def test_cloud_events():
    found = envelope(("ce_id", b"e1"), ("ce_source", b"/shop"), ("ce_replytopic", b"answers"))
    assert (found.correlation_id, found.reply_topic) == ("e1", "answers")
    assert dict(found.event) == {"id": "e1", "source": "/shop", "replytopic": "answers"}


def test_ours_counts_before_the_others_and_the_first_of_a_name_counts():
    found = envelope(("ce_id", b"c"), ("correlation-id", b"a"), ("correlation-id", b"b"))
    assert found.correlation_id == "a"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"1700000000", 1.7e9),
        (b"1700000000123", 1700000000.123),
        (b"2023-11-14T22:13:20Z", 1.7e9),
        (b"2023-11-14T22:13:20", 1.7e9),
        (b"2023-11-15T06:13:20+08:00", 1.7e9),
        (b"2023-11-14t22:13:20z", 1.7e9),
        (b"2016-12-31T23:59:60Z", 1483228800.0),
        (b"2017-01-01T05:29:60.5+05:30", 1483228800.5),
        (b"2016-12-31T23:60:00Z", None),
        (b"soon", None),
        (b"nan", None),
        (b"", None),
    ],
)
def test_deadlines(text, seconds):
    assert envelope(("deadline", text)).deadline == seconds


@pytest.mark.parametrize(
    ("text", "priority"),
    [(b"+7", 7), (b"-1700000000000", -1_700_000_000_000), (b"9223372036854775807", 2**63 - 1)]
    + [(text, 0) for text in (b"1.5", b"high", b"", b"9" * 5_000)],
)
def test_priorities(text, priority):
    assert envelope(("priority", text)).priority == priority


@pytest.mark.parametrize("topic", ["..", "a b", "Grüße", "x" * 250, "a/b"])
def test_what_is_no_topic_name_is_told_apart(topic):
    found = envelope(("reply-topic", topic.encode()))
    assert found.reply_topic == topic
    assert not found.reply_topic_is_valid


NAMES = st.sampled_from(
    ["correlation-id", "reply-topic", "deadline", "priority", "kafka_replyPartition", "ce_id"]
)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.one_of(NAMES, st.text(max_size=5)), st.one_of(st.none(), st.binary(max_size=40))))
)
def test_nothing_in_headers_raises(headers):
    Envelope.of(incoming(tuple(headers)))


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES, st.text(max_size=40).map(str.encode))))
def test_no_text_in_headers_raises(headers):
    Envelope.of(incoming(tuple(headers)))
