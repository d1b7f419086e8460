"""What counts as the same request, and for how long its reply is remembered."""

import time

from daemon.kafka.intake.waiting import Waiting
from daemon.kafka.progress.duplicates import FINGERPRINT, First, Window, fingerprint_of, fingerprinted
from daemon.kafka.record import Incoming, Outgoing


def first(fingerprint: bytes, age: float = 0.0) -> First:
    return First(fingerprint, "t/0/1", time.time() - age, b"{}")


def test_group_tenant_key_id_and_value_all_count_and_cannot_be_shifted_into_one_another():
    same = [
        fingerprint_of("g", None, b"k", "id", b"v"),
        fingerprint_of("g", None, b"k", "i", b"dv"),
        fingerprint_of("g", None, None, "id", b"v"),
        fingerprint_of("g", None, b"", "id", b"v"),
        fingerprint_of("gk", None, b"", "id", b"v"),
        fingerprint_of("g", "k", None, "id", b"v"),
        fingerprint_of("g", "", b"k", "id", b"v"),
    ]
    assert len(set(same)) == len(same)


def test_what_is_refused_for_its_size_has_no_duplicates():
    def fingerprint(size: int) -> bytes | None:
        value = b'{"id": "a"}' + b" " * (size - 11)
        record = Incoming("t", 0, 0, b"k", value, (("correlation-id", b"c"),), 0)
        return Waiting.of(record, group="g", limit_bytes=100).fingerprint

    assert fingerprint(100) is not None
    assert fingerprint(101) is None


def test_only_answers_and_effects_are_remembered():
    def marked(value: bytes) -> bool:
        return FINGERPRINT in dict(fingerprinted([Outgoing("r", None, value)], b"f")[0].headers)

    assert marked(b'{"status": "ok"}')
    assert marked(b'{"status": "error", "tools": [{"name": "refund"}]}')
    assert not marked(b'{"status": "rejected", "tools": []}')
    assert not marked(b"\xff")
    assert fingerprinted([], b"f") == []


def test_the_window_is_bounded_in_time_and_number():
    window = Window(10.0, 2, [first(b"old", 11.0), first(b"a", 5.0), first(b"b"), first(b"c")])
    assert [window.find(one) is not None for one in (b"old", b"a", b"b", b"c", None)] == [
        False,
        False,
        True,
        True,
        False,
    ]


def test_the_first_reply_stays_the_first():
    window = Window(10.0, 5, [First(b"f", "t/0/1", time.time(), b"1")])
    record = Incoming("t", 0, 2, b"k", b"", (), 0)
    window.note(record, [Outgoing("r", None, b"2", ((FINGERPRINT, b"f"),))])
    assert window.find(b"f").value == b"1"


def test_a_window_of_no_time_remembers_nothing():
    window = Window(0.0, 5, [first(b"f")])
    assert window.find(b"f") is None
