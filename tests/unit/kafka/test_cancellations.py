"""Which request a cancel means, and for how long it waits for it."""

import json

from daemon.kafka.intake.cancellations import Cancellation, Cancellations
from daemon.kafka.intake.waiting import Waiting
from daemon.kafka.record import Incoming


def waiting(offset: int = 0, key: bytes = b"k", id_: str | None = "a", correlation: bytes = b"c") -> Waiting:
    value = json.dumps({"id": id_} if id_ else {}).encode()
    return Waiting.of(Incoming("t", 0, offset, key, value, (("correlation-id", correlation),), 0))


def test_a_cancel_means_its_id_and_key_only():
    assert Cancellation(id="a").means(waiting())
    assert Cancellation(id="a", key=b"k", correlation_id="c").means(waiting())
    assert Cancellation(id="c").means(waiting(id_=None))
    assert Cancellation(id="t/0/7").means(
        Waiting.of(Incoming("t", 0, 7, None, b"poison", (), 0))
    )  # what has no name is named by its address
    assert not Cancellation(id="c").means(waiting())
    assert not Cancellation(id="a", key=b"other").means(waiting())
    assert not Cancellation(id="a", correlation_id="other").means(waiting())


def test_a_cancel_heard_late_means_no_request_after_it():
    old, new = (Waiting.of(Incoming("t", 0, 1, b"k", b'{"id": "a"}', (), time)) for time in (100, 101))
    assert Cancellation(id="a", until=100).means(old)
    assert not Cancellation(id="a", until=100).means(new)


def test_one_kept_cancels_one_record_however_often_it_is_delivered():
    kept = Cancellations(60.0)
    for cancel in (Cancellation(id="a"), Cancellation(correlation_id="x", key=b"k")):
        kept.keep(cancel)
    assert kept.claim(waiting(1))
    assert kept.claim(waiting(1))
    assert not kept.claim(waiting(2))
    assert not kept.claim(waiting(3, key=b"other", correlation=b"x", id_="b"))
    assert kept.claim(waiting(3, correlation=b"x", id_="b"))


def test_one_that_found_its_request_means_no_later_one():
    kept = Cancellations(60.0)
    kept.keep(Cancellation(id="a"), found=waiting(1))
    assert not kept.claim(waiting(2))


def test_kept_ones_are_bounded_in_time_and_number():
    gone = Cancellations(0.0)
    gone.keep(Cancellation(id="a"))
    assert not gone.claim(waiting())
    many = Cancellations(60.0)
    for number in range(10_001):
        many.keep(Cancellation(id="a" if number == 0 else str(number)))
    assert not many.claim(waiting())
    assert many.claim(waiting(id_="10000"))
