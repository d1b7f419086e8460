"""Makes sure that what leaves can arrive: topics exist, records fit, and a refusal is an answer too."""

import zlib
from dataclasses import replace

from daemon.errors import ReplyTooLarge, UnknownReplyTopic
from daemon.kafka.brokers.topics import Topics
from daemon.kafka.envelope import Envelope
from daemon.kafka.publishing.deadletter import dead_letter, size_bytes
from daemon.kafka.record import Incoming, Outgoing
from daemon.kafka.replies import error_reply
from daemon.kafka.settings import KafkaSettings
from schemas.errors import AutoGLMError


class Answers:
    """Checks the records of one request before they are published."""

    def __init__(self, settings: KafkaSettings, topics: Topics) -> None:
        self._settings = settings
        self._topics = topics
        # A reply there would come back as a request, a command or a metric.
        self._own = {
            *settings.request_topics,
            settings.control_topic,
            settings.metrics_topic,
            settings.audit_topic,
            settings.journal_topic,
        }
        self._own.add(settings.dead_letter_topic)

    async def refusal(self, record: Incoming) -> list[Outgoing] | None:
        """The answer to a record whose reply address cannot be used: no work is done for it."""
        envelope = Envelope.of(record)
        topic = envelope.reply_topic
        if topic is None or await self._may_reply_to(topic, envelope):
            return None
        named = topic if envelope.reply_topic_is_valid else repr(topic[:100])
        error = UnknownReplyTopic(
            f"The reply topic {named} does not exist or is not for replies; "
            "create it, or leave `reply-topic` out to use the default one."
        )
        return await self.failure(record, error, to=self._settings.reply_topic)

    async def failure(self, record: Incoming, error: AutoGLMError, to: str | None = None) -> list[Outgoing]:
        """An error reply and a dead letter."""
        envelope = Envelope.of(record)
        reply = error_reply(record, envelope, to or envelope.reply_topic or self._settings.reply_topic, error)
        letters = self._settings.dead_letter_topic
        found = await self._topics.find(letters)
        limit = found.max_bytes if found else self._settings.max_record_bytes
        return [reply, dead_letter(record, letters, error, max_bytes=limit)]

    async def admit(self, record: Incoming, outputs: list[Outgoing]) -> list[Outgoing]:
        """`outputs` with everything that could not arrive replaced, each with the header `reply-id`.

        The id is made of the request's address: a second delivery's reply has the same one.
        """
        admitted: list[Outgoing] = []
        for output in outputs:
            admitted += await self._arrivable(record, output)
        return [
            replace(output, headers=(*output.headers, ("reply-id", f"{record.address}/{number}".encode())))
            for number, output in enumerate(admitted)
        ]

    async def _arrivable(self, record: Incoming, output: Outgoing) -> list[Outgoing]:
        topic = await self._topics.find(output.topic)
        if topic is None:
            error = UnknownReplyTopic(f"The topic {output.topic} does not exist any more; create it again.")
            return await self.failure(record, error, to=self._settings.reply_topic)
        if size_bytes(output) + 64 > topic.max_bytes:
            return [error_reply(record, Envelope.of(record), output.topic, ReplyTooLarge())]
        return [replace(output, partition=_partition(record, output, topic.partitions))]

    async def route(self, record: Incoming, output: Outgoing) -> Outgoing | None:
        """`output` with the partition its request's reply has; None when its topic does not exist."""
        topic = await self._topics.find(output.topic)
        if topic is None:
            return None
        return replace(output, partition=_partition(record, output, topic.partitions))

    async def _may_reply_to(self, topic: str, envelope: Envelope) -> bool:
        if not envelope.reply_topic_is_valid or topic in self._own or topic.startswith("__"):
            return False
        return await self._topics.find(topic) is not None


def _partition(record: Incoming, output: Outgoing, count: int) -> int | None:
    """The caller's choice if there is such a partition. Records without a key would be scattered: deltas
    and reply of one request share a partition of the request's address.
    """
    if output.partition is not None and output.partition < count:
        return output.partition
    return None if output.key is not None else zlib.crc32(record.address.encode()) % count
