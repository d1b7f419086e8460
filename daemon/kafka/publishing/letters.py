"""Reading the dead-letter topic, and giving a letter back to the topic it came from."""

import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from daemon.kafka.publishing.deadletter import PREFIX
from daemon.kafka.reader import Reader
from daemon.kafka.record import Headers, Outgoing
from daemon.kafka.settings import KafkaSettings

_ADDED = ("reply-id",)  # by us when the letter was written, beside the conventional headers
_POLL_MILLISECONDS = 500


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as it lies in its topic. Fields are None where a header is missing or unreadable."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes
    headers: Headers

    @property
    def place(self) -> str:
        return f"{self.partition}/{self.offset}"

    @property
    def truncated(self) -> bool:
        return self._raw("truncated") is not None

    @property
    def topic(self) -> str | None:
        return self._text("original-topic")

    @property
    def original(self) -> str:
        """`topic/partition/offset` of the record, as far as known."""
        known = (self.topic, self._number("original-partition"), self._number("original-offset"))
        return "/".join("?" if part is None else str(part) for part in known)

    @property
    def code(self) -> str:
        return self._text("exception-code") or self._text("exception-fqcn") or "?"

    @property
    def message(self) -> str:
        return self._text("exception-message") or ""

    @property
    def attempts(self) -> int | None:
        return self._number("attempts")

    @property
    def own_headers(self) -> Headers:
        """Those that the record had before it died."""
        return tuple(
            header for header in self.headers if not header[0].startswith(PREFIX) and header[0] not in _ADDED
        )

    def revived(self) -> Outgoing:
        """The record as it was. Raises ValueError, saying why, for a letter that does not tell or was cut."""
        if self.topic is None:
            raise ValueError(f"no `{PREFIX}original-topic` header: where it came from is not known")
        if self.truncated:
            raise ValueError("it was cut to fit its topic; send the original again")
        return Outgoing(
            self.topic, self.key, self.value, self.own_headers, self._number("original-partition")
        )

    def _raw(self, name: str) -> bytes | None:
        return next((value for header, value in self.headers if header == PREFIX + name), None)

    def _text(self, name: str) -> str | None:
        raw = self._raw(name)
        return None if raw is None else raw.decode(errors="replace")

    def _number(self, name: str) -> int | None:
        raw = self._raw(name)
        formats = {4: ">i", 8: ">q"}
        if raw is None or len(raw) not in formats:
            return None
        number: int = struct.unpack(formats[len(raw)], raw)[0]
        return number


async def letters(settings: KafkaSettings) -> AsyncIterator[Letter]:
    """All that the topic holds now, partition by partition in order. Raises aiokafka's KafkaError."""
    async with Reader(
        **settings.connection(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    ) as consumer:
        for number in await _partitions(settings):
            async for letter in _partition(consumer, TopicPartition(settings.dead_letter_topic, number)):
                yield letter


async def _partitions(settings: KafkaSettings) -> list[int]:
    admin = AIOKafkaAdminClient(**settings.connection())
    await admin.start()
    try:
        # All topics at once: to ask for one that is not there creates it where the broker allows that.
        listed = await admin.describe_topics(None)
    finally:
        await admin.close()
    found = [topic["partitions"] for topic in listed if topic["topic"] == settings.dead_letter_topic]
    return sorted(partition["partition"] for partitions in found for partition in partitions)


async def _partition(consumer: Any, partition: TopicPartition) -> AsyncIterator[Letter]:
    consumer.assign([partition])
    end = (await consumer.end_offsets([partition]))[partition]
    await consumer.seek_to_beginning(partition)
    while await consumer.position(partition) < end:
        batches = await consumer.getmany(partition, timeout_ms=_POLL_MILLISECONDS)
        for record in batches.get(partition, []):
            if record.offset < end:
                yield _letter(record)


def _letter(record: ConsumerRecord) -> Letter:
    return Letter(
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value or b"",
        tuple(record.headers),
    )
