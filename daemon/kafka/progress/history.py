"""What was replied lately, read back from the default reply topic when a partition is opened."""

import asyncio
import time
from collections import defaultdict, deque

from aiokafka import ConsumerRecord, TopicPartition

from daemon.kafka.brokers.topics import Topics
from daemon.kafka.progress.backlog import BacklogReader
from daemon.kafka.progress.duplicates import FINGERPRINT, First, Window
from daemon.kafka.settings import KafkaSettings

# So many records of a partition of the reply topic are read for each reply that is remembered. A busy topic
# holds more deltas than replies, and who takes over must not read them for longer than all else takes.
_RECORDS_PER_REPLY = 20


class History:
    """Reads on from where it stopped; openings at the same time share one reading."""

    def __init__(self, settings: KafkaSettings, topics: Topics) -> None:
        self._settings, self._topics = settings, topics
        self._positions: dict[TopicPartition, int] = {}
        most = settings.duplicate_window_requests
        self._firsts: defaultdict[TopicPartition, deque[First]] = defaultdict(lambda: deque(maxlen=most))
        self._reading = asyncio.Lock()
        self._wanted = self._served = 0

    async def window(self, partition: TopicPartition) -> Window:
        """The replies to a partition's requests. Call it when no former owner can write any more.

        Raises aiokafka's KafkaError.
        """
        settings = self._settings
        seconds, most = settings.duplicate_window_seconds, settings.duplicate_window_requests
        if not seconds:
            return Window(0.0, most)
        self._wanted += 1
        mine = self._wanted
        async with self._reading:
            if self._served < mine:
                serves = self._wanted
                await self._read()
                self._served = serves
        return Window(seconds, most, self._firsts[partition])

    async def _read(self) -> None:
        topic = await self._topics.find(self._settings.reply_topic)
        if topic is None:
            return
        partitions = [
            TopicPartition(self._settings.reply_topic, number) for number in range(topic.partitions)
        ]
        async with BacklogReader(self._settings) as reader:
            reader.assign(partitions)
            await self._seek(reader, partitions)
            async for records in reader.batches():
                for record in records:
                    self._take(record)
                for partition in partitions:
                    self._positions[partition] = await reader.position(partition)

    async def _seek(self, reader: BacklogReader, partitions: list[TopicPartition]) -> None:
        since = int((time.time() - self._settings.duplicate_window_seconds) * 1000)
        found = await reader.offsets_for_times(dict.fromkeys(partitions, since))
        ends = await reader.end_offsets(partitions)
        for partition in partitions:
            first = found[partition].offset if found.get(partition) else ends[partition]
            least = ends[partition] - _RECORDS_PER_REPLY * self._settings.duplicate_window_requests
            reader.seek(partition, max(first, least, self._positions.get(partition, 0)))

    def _take(self, record: ConsumerRecord) -> None:
        headers = dict(record.headers)
        fingerprint, name = headers.get(FINGERPRINT), headers.get("reply-id", b"")
        # topic/partition/offset/number
        parts = name.decode(errors="replace").split("/")
        if fingerprint is None or record.value is None or len(parts) != 4 or not parts[1].isdecimal():
            return
        if parts[0] not in self._settings.request_topics:
            return  # another installation's
        address = "/".join(parts[:3])
        first = First(fingerprint, address, record.timestamp / 1000, record.value)
        self._firsts[TopicPartition(parts[0], int(parts[1]))].append(first)
