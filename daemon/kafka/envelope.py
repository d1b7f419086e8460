"""What a request's headers say: names of ours, of Spring Kafka and of CloudEvents. Never raises.

Spring: `kafka_correlationId` and `kafka_replyTopic` (ReplyingKafkaTemplate), `kafka_replyPartition` (4 bytes,
big-endian). CloudEvents Kafka binding: `ce_id` and the rest with the prefix `ce_`.
"""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from daemon.kafka.record import Headers, Incoming
from daemon.kafka.settings import TOPIC_NAME

_CORRELATION = ("correlation-id", "kafka_correlationId", "ce_correlationid", "ce_id")
_TENANT = ("tenant", "ce_tenant")
_REPLY_TOPIC = ("reply-topic", "kafka_replyTopic", "ce_replytopic")
_LEAP_SECOND = re.compile(r"(?<=:[0-9]{2}):60(?![0-9])")
_MILLISECONDS_FROM = 1e11  # as seconds that is the year 5138


@dataclass(frozen=True, slots=True)
class Envelope:
    """The understood headers.

    `deadline`: seconds since 1970 (header: seconds, milliseconds or RFC 3339). `priority`: higher is sooner.
    `reply_topic` may be no valid name: it is what the caller asked for. `echo`: headers that a reply repeats.
    """

    correlation_id: str | None = None
    reply_topic: str | None = None
    reply_partition: int | None = None
    deadline: float | None = None
    priority: int = 0
    traceparent: str | None = None
    tracestate: str | None = None
    tenant: str | None = None
    event: tuple[tuple[str, str], ...] = ()
    echo: Headers = ()

    @classmethod
    def of(cls, record: Incoming) -> "Envelope":
        """The first header of a name counts, as with HTTP."""
        raw: dict[str, bytes] = {}
        for name, value in record.headers:
            if value is not None:
                raw.setdefault(name, value)
        text = {name: _text(value) for name, value in raw.items()}
        correlation = next((name for name in _CORRELATION if text.get(name)), None)
        partition = raw.get("kafka_replyPartition", b"")
        return cls(
            correlation_id=text[correlation] if correlation else None,
            reply_topic=next((text[name] for name in _REPLY_TOPIC if text.get(name)), None),
            reply_partition=int.from_bytes(partition, "big") if len(partition) == 4 else None,
            deadline=_deadline(_plain(raw.get("deadline", b""))),
            priority=_integer(_plain(raw.get("priority", b""))),
            traceparent=text.get("traceparent"),
            tracestate=text.get("tracestate"),
            tenant=next((text[name] for name in _TENANT if text.get(name)), None),
            event=tuple((name[3:], value) for name, value in text.items() if name.startswith("ce_")),
            echo=_echo(raw, correlation),
        )

    @property
    def reply_topic_is_valid(self) -> bool:
        """What is no topic name is not worth asking a broker for."""
        return self.reply_topic is not None and TOPIC_NAME.fullmatch(self.reply_topic) is not None


def _echo(raw: dict[str, bytes], correlation: str | None) -> Headers:
    """The caller's id byte for byte under the caller's name and under ours, and the trace."""
    found: list[tuple[str, bytes | None]] = []
    if correlation is not None:
        found.append(("correlation-id", raw[correlation]))
        if correlation == "kafka_correlationId":
            found.append((correlation, raw[correlation]))
    return (*found, *((name, raw[name]) for name in ("traceparent", "tracestate") if name in raw))


def _text(value: bytes) -> str:
    """UTF-8 if it is; binary ids, such as Spring's 16 bytes of a UUID, become hexadecimal."""
    try:
        text = value.decode("utf-8").strip()
    except UnicodeDecodeError:
        return value.hex()
    return text if text.isprintable() else value.hex()


def _plain(value: bytes) -> str:
    """The text, or nothing: the hexadecimal form of binary data could pass for a number."""
    return value.decode("ascii", errors="replace").strip() if value.isascii() else ""


def _integer(text: str) -> int:
    # 64 bits and more: some write the time as a priority. Python refuses thousands of digits.
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,20}", text) else 0


def _deadline(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return _from_date(text)
    if not math.isfinite(number):
        return None
    return number / 1000 if abs(number) >= _MILLISECONDS_FROM else number


def _from_date(text: str) -> float | None:
    """RFC 3339 allows lower case, and a leap second: in Unix time that is the one which follows."""
    plain, leaps = _LEAP_SECOND.subn(":59", text.upper())
    try:
        moment = datetime.fromisoformat(plain)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() + leaps
    except (ValueError, OverflowError):
        return None
