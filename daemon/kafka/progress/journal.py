"""The journal topic: notes of requests that a partition's next owner must know.

Compacted, and partitioned as the request topics are: a note of `topic/partition/offset` lies in the journal's
partition of the same number, under the key `topic/partition/offset/name`. Notes go through the lane's
publisher: the brokers refuse those of a process that lost the partition, and a note of an aborted transaction
was never written. They are removed when the partition's committed offset has passed their request.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from aiokafka import TopicPartition

from daemon.kafka.brokers.topics import Topics
from daemon.kafka.progress.backlog import BacklogReader
from daemon.kafka.record import Incoming, Outgoing
from daemon.kafka.settings import KafkaSettings

log = structlog.get_logger(__name__)

_OVERHEAD_BYTES = 1024  # key, header and framing of a record
_REMOVED_AT_ONCE = 500
_REQUEST = "request"  # the header that tells which record a note is about


@dataclass(frozen=True, slots=True)
class _Note:
    request: bytes
    value: bytes


class LaneJournal:
    """The notes of one partition's requests, as restored and as written since."""

    def __init__(
        self, topic: str, partition: TopicPartition, limit_bytes: int, notes: dict[int, dict[str, _Note]]
    ) -> None:
        self.limit_bytes = limit_bytes
        self._topic = topic
        self._partition = partition
        self._notes = notes

    def of(self, record: Incoming) -> dict[str, bytes]:
        """What earlier deliveries of the record left. Notes of another record, which had the same address
        before its topic was made anew, are none of its.
        """
        found = self._notes.get(record.offset)
        if not found:
            return {}
        request = _fingerprint(record)
        if any(note.request != request for note in found.values()):
            log.warning("journal_of_another_record", request=record.address)
        return {name: note.value for name, note in found.items() if note.request == request}

    def records(self, record: Incoming, notes: Mapping[str, bytes]) -> list[Outgoing]:
        """What to write to keep `notes`."""
        request = _fingerprint(record)
        known = self._notes.setdefault(record.offset, {})
        known |= {name: _Note(request, value) for name, value in notes.items()}
        return [
            self._record(record.offset, name, value, ((_REQUEST, request),)) for name, value in notes.items()
        ]

    def removals(self, committed: int) -> list[Outgoing]:
        """Tombstones for requests below the committed offset. Some of them: the next call has the rest."""
        done = [offset for offset in self._notes if offset < committed][:_REMOVED_AT_ONCE]
        return [self._record(offset, name, None, ()) for offset in done for name in self._notes.pop(offset)]

    def _record(
        self, offset: int, name: str, value: bytes | None, headers: tuple[tuple[str, bytes | None], ...]
    ) -> Outgoing:
        source = self._partition
        key = f"{source.topic}/{source.partition}/{offset}/{name}".encode()
        return Outgoing(self._topic, key, value, headers, source.partition)


class RequestNotes:
    """`daemon.tools.notes.Notes` of one request."""

    def __init__(
        self,
        journal: LaneJournal,
        record: Incoming,
        publish: Callable[[Sequence[Outgoing]], "asyncio.Future[None]"],
        publish_soon: Callable[[Sequence[Outgoing]], None],
    ) -> None:
        """Both queue records at once, in one queue. What `publish` returns is done when they are written, for
        which they may wait for others; `publish_soon` has them written without delay.
        """
        self.saved = journal.of(record)
        self.limit_bytes = journal.limit_bytes
        self._journal = journal
        self._record = record
        self._publish = publish
        self._publish_soon = publish_soon

    async def write(self, notes: Mapping[str, bytes]) -> None:
        await self._publish(self._journal.records(self._record, notes))

    def write_soon(self, notes: Mapping[str, bytes]) -> None:
        self._publish_soon(self._journal.records(self._record, notes))


class JournalTopic:
    """Opens the journals of partitions as they are assigned."""

    def __init__(self, settings: KafkaSettings, topics: Topics) -> None:
        self._settings = settings
        self._topics = topics

    async def open(self, partition: TopicPartition) -> LaneJournal:
        """Reads the partition's notes to their end.

        Call it when no former owner can write any more. Raises JournalUnfit or what
        `BacklogReader.batches` raises.
        """
        topic = self._settings.journal_topic
        await self._topics.prepare_journal(partition.partition + 1)
        found = await self._topics.find(topic)
        limit = (found.max_bytes if found else self._settings.max_record_bytes) - _OVERHEAD_BYTES
        notes = await self._read(TopicPartition(topic, partition.partition), partition)
        if notes:
            log.info(
                "journal_restored", partition=f"{partition.topic}/{partition.partition}", requests=len(notes)
            )
        return LaneJournal(topic, partition, limit, notes)

    async def _read(self, journal: TopicPartition, source: TopicPartition) -> dict[int, dict[str, _Note]]:
        notes: dict[int, dict[str, _Note]] = {}
        async with BacklogReader(self._settings) as reader:
            reader.assign([journal])
            async for records in reader.batches():
                for record in records:
                    _take(notes, source, record.key or b"", dict(record.headers).get(_REQUEST), record.value)
        return notes


def _take(
    notes: dict[int, dict[str, _Note]],
    source: TopicPartition,
    key: bytes,
    request: bytes | None,
    value: bytes | None,
) -> None:
    parts = key.decode(errors="replace").split("/")
    if len(parts) != 4 or parts[:2] != [source.topic, str(source.partition)] or not parts[2].isdecimal():
        return  # another request topic's, or foreign
    offset, name = int(parts[2]), parts[3]
    if value is not None and request is not None:
        notes.setdefault(offset, {})[name] = _Note(request, value)
    elif offset in notes:
        notes[offset].pop(name, None)
        if not notes[offset]:
            del notes[offset]


def _fingerprint(record: Incoming) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in (str(record.timestamp).encode(), record.key or b"", record.value or b""):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()
