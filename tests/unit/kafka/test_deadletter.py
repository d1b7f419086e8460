"""Dead letters keep the record and say why; they fit the topic whatever came."""

from daemon.errors import InvalidJson
from daemon.kafka.publishing.deadletter import cut, dead_letter, size_bytes
from daemon.kafka.record import Incoming


def incoming(value: bytes | None, *headers: tuple[str, bytes | None]) -> Incoming:
    return Incoming("requests", 3, 4, b"k", value, headers, 1_700_000_000_000, attempt=2)


def test_carries_the_record_and_the_conventional_headers():
    earlier = ("kafka_dlt-original-topic", b"older")
    letter = dead_letter(incoming(b"{", ("mine", b"1"), earlier), "dead", InvalidJson())
    headers = dict(letter.headers)
    assert (letter.topic, letter.key, letter.value, headers["mine"]) == ("dead", b"k", b"{", b"1")
    assert headers["kafka_dlt-original-topic"] == b"requests"
    assert int.from_bytes(headers["kafka_dlt-original-partition"], "big") == 3
    assert int.from_bytes(headers["kafka_dlt-original-offset"], "big") == 4
    assert int.from_bytes(headers["kafka_dlt-original-timestamp"], "big") == 1_700_000_000_000
    assert headers["kafka_dlt-exception-fqcn"] == b"InvalidJson"
    assert headers["kafka_dlt-exception-code"] == b"invalid_json"
    assert headers["kafka_dlt-exception-message"] == str(InvalidJson()).encode()
    assert int.from_bytes(headers["kafka_dlt-attempts"], "big") == 2
    assert len(letter.headers) == len(headers)


def test_a_record_without_value_is_kept_too():
    assert dead_letter(incoming(None), "dead", InvalidJson()).value == b""


def test_a_value_that_would_not_fit_is_cut_and_says_so():
    letter = cut(dead_letter(incoming(b"x" * 9_990), "dead", InvalidJson()), 10_000)
    assert size_bytes(letter) <= 10_000
    assert dict(letter.headers)["kafka_dlt-truncated"] == b"9990"
    assert len(letter.value) > 9_000


def test_headers_that_would_not_fit_go_the_largest_first_and_the_value_stays():
    headers = [("mine", b"1"), ("large", b"x" * 9_800), ("second", b"x" * 300)]
    letter = cut(dead_letter(incoming(b"{", *headers), "dead", InvalidJson()), 10_000)
    assert size_bytes(letter) <= 10_000
    found = dict(letter.headers)
    assert (letter.key, letter.value, found["kafka_dlt-headers-dropped"]) == (b"k", b"{", b"1")
    assert {"mine", "second"} < set(found) and "large" not in found
