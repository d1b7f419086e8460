"""Dead letters: the record as it came, with headers that say where from and why.

Header names and encodings are those of Spring Kafka's DeadLetterPublishingRecoverer (`kafka_dlt-…`, numbers
big-endian), which most tools for dead letters read.
"""

import struct
from dataclasses import replace

from daemon.kafka.record import Headers, Incoming, Outgoing
from schemas.errors import AutoGLMError

PREFIX = "kafka_dlt-"
_MARKS_BYTES = 128  # of the headers that say what was cut


def dead_letter(record: Incoming, topic: str, error: AutoGLMError) -> Outgoing:
    """A copy of `record` for the dead-letter topic; headers of an earlier dead letter are replaced."""
    headers: Headers = (
        *((name, content) for name, content in record.headers if not name.startswith(PREFIX)),
        (f"{PREFIX}original-topic", record.topic.encode()),
        (f"{PREFIX}original-partition", struct.pack(">i", record.partition)),
        (f"{PREFIX}original-offset", struct.pack(">q", record.offset)),
        (f"{PREFIX}original-timestamp", struct.pack(">q", record.timestamp)),
        (f"{PREFIX}exception-fqcn", type(error).__name__.encode()),
        (f"{PREFIX}exception-code", error.code.value.encode()),
        (f"{PREFIX}exception-message", str(error).encode()[:1000]),
        (f"{PREFIX}attempts", struct.pack(">i", record.attempt)),
    )
    return Outgoing(topic, record.key, record.value or b"", headers)


def cut(letter: Outgoing, max_bytes: int) -> Outgoing:
    """The letter, with as much of what came as fits. Headers `kafka_dlt-…` stay; the value is cut
    first. Where even an empty one would not fit, other headers go, largest first, and then the key is cut.
    `kafka_dlt-truncated` says how long the value was, `kafka_dlt-headers-dropped` how many headers are gone.
    """
    if size_bytes(letter) <= max_bytes:
        return letter
    value, key = letter.value or b"", letter.key
    own = [place for place, (name, _) in enumerate(letter.headers) if not name.startswith(PREFIX)]
    own.sort(key=lambda place: _header_bytes(*letter.headers[place]))
    dropped: set[int] = set()
    room = max_bytes - size_bytes(replace(letter, value=b"")) - _MARKS_BYTES
    while room < 0 and own:
        largest = own.pop()
        dropped.add(largest)
        room += _header_bytes(*letter.headers[largest])
    if room < 0 and key is not None:
        key = key[: max(0, len(key) + room)]
    marks: Headers = ((f"{PREFIX}truncated", str(len(value)).encode()),)
    if dropped:
        marks = (*marks, (f"{PREFIX}headers-dropped", str(len(dropped)).encode()))
    kept = tuple(header for place, header in enumerate(letter.headers) if place not in dropped)
    return replace(letter, key=key, value=value[: max(0, room)], headers=(*kept, *marks))


def size_bytes(record: Outgoing) -> int:
    """An upper bound of the record's size in a batch of its own (format v2)."""
    headers = sum(_header_bytes(name, value) for name, value in record.headers)
    return 128 + len(record.key or b"") + len(record.value or b"") + headers


def _header_bytes(name: str, value: bytes | None) -> int:
    return len(name.encode()) + len(value or b"") + 10
