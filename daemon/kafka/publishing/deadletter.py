"""Dead letters: the record as it came, with headers that say where from and why.

Header names and encodings are those of Spring Kafka's DeadLetterPublishingRecoverer (`kafka_dlt-…`, numbers
big-endian), which most tools for dead letters read.
"""

import struct
from dataclasses import replace

from daemon.kafka.record import Headers, Incoming, Outgoing
from schemas.errors import AutoGLMError

PREFIX = "kafka_dlt-"


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
    """The letter, with as much of its value as fits; then `kafka_dlt-truncated` says how long it was."""
    value, excess = letter.value or b"", size_bytes(letter) - max_bytes
    if excess <= 0:
        return letter
    marked = (*letter.headers, (f"{PREFIX}truncated", str(len(value)).encode()))
    return replace(letter, value=value[: max(0, len(value) - excess - 64)], headers=marked)


def size_bytes(record: Outgoing) -> int:
    """An upper bound of the record's size in a batch of its own (format v2)."""
    headers = sum(len(name.encode()) + len(value or b"") + 10 for name, value in record.headers)
    return 128 + len(record.key or b"") + len(record.value or b"") + headers
