"""Makes sure that what leaves can arrive: topics exist, records fit, and a refusal is an answer too."""

import zlib
from collections.abc import Iterable
from dataclasses import replace

import structlog

from daemon.errors import ReplyTooLarge, UnknownReplyTopic
from daemon.kafka.brokers.topics import Topic, Topics
from daemon.kafka.envelope import Envelope
from daemon.kafka.publishing.deadletter import cut, dead_letter, size_bytes
from daemon.kafka.record import Incoming, Outgoing
from daemon.kafka.replies import error_reply
from daemon.kafka.settings import KafkaSettings
from schemas.errors import AutoGLMError

_REPLY_ID = 320  # bytes that the header `reply-id` takes at most, with the longest name of a topic
log = structlog.get_logger(__name__)


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
            settings.dead_letter_topic,
        }

    async def problem(self, record: Incoming) -> UnknownReplyTopic | None:
        """Why the reply address of a record cannot be used: no work is done for it."""
        envelope = Envelope.of(record)
        if envelope.reply_topic is None:
            return None
        problem = await self._problem(envelope.reply_topic, envelope, record)
        if problem is None:
            return None
        return UnknownReplyTopic(f"{problem}, or leave `reply-topic` out to use the default one.")

    def failure(self, record: Incoming, error: AutoGLMError) -> list[Outgoing]:
        """An error reply, to the default topic where the caller's is what is wrong, and a dead letter."""
        envelope = Envelope.of(record)
        asked = None if isinstance(error, UnknownReplyTopic) else envelope.reply_topic
        reply = error_reply(record, envelope, asked or self._settings.reply_topic, error)
        return [reply, dead_letter(record, self._settings.dead_letter_topic, error)]

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
        letter = output.topic == self._settings.dead_letter_topic
        if topic is None and letter:
            log.error("dead_letter_lost", request=record.address, topic=output.topic)
            return []
        if topic is None and output.topic == self._settings.reply_topic:
            return [output]  # there is nowhere else to send it; it waits for the topic
        if topic is None:
            error = UnknownReplyTopic(f"The topic {output.topic} does not exist any more; create it again.")
            others = self.failure(record, error)
            return [fit for other in others for fit in await self._arrivable(record, other)]
        record, output = _keyed(record, output, topic)
        room = topic.max_bytes - _REPLY_ID
        output = cut(output, room) if letter else _fitting(record, output, room)
        return [replace(output, partition=_partition(record, output, topic.partitions))]

    async def route(self, record: Incoming, output: Outgoing) -> Outgoing | None:
        """`output` with the partition its request's reply has; None when its topic does not exist."""
        topic = await self._topics.find(output.topic)
        if topic is None:
            return None
        record, output = _keyed(record, output, topic)
        return replace(output, partition=_partition(record, output, topic.partitions))

    def doubt(self) -> None:
        """What was published did not arrive: look at the topics again."""
        self._topics.doubt()

    def refuse(self, records: Iterable[Outgoing]) -> bool:
        """The brokers took these records not: whether that may be for a topic that a caller has chosen. If
        there is but one among theirs, nothing more is sent to it for a while."""
        chosen = {record.topic for record in records} - self._own - {self._settings.reply_topic}
        if len(chosen) == 1:
            self._topics.refuse(*chosen)
        return bool(chosen)

    async def _problem(self, name: str, envelope: Envelope, record: Incoming) -> str | None:
        """Why no reply can go there, and the remedy."""
        if not envelope.reply_topic_is_valid or name in self._own or name.startswith("__"):
            named = name if envelope.reply_topic_is_valid else repr(name[:100])
            return f"The reply topic {named} is not for replies; name another one"
        topic = await self._topics.find(name)
        if topic is None:
            return f"The reply topic {name} does not exist or takes no replies; create it"
        if topic.compacted and record.key is None:
            return f"The reply topic {name} is compacted, so replies need a key; give the request one"
        return None


def _fitting(record: Incoming, output: Outgoing, max_bytes: int) -> Outgoing:
    """`output`, or the reply that it is too large. What that repeats of the request may be what is too large:
    it does without the caller's ids and trace then, or without the key too; its `id` is the record's address.
    """
    if size_bytes(output) <= max_bytes:
        return output
    envelope = Envelope.of(record)
    reply = error_reply(record, envelope, output.topic, ReplyTooLarge())
    if size_bytes(reply) <= max_bytes:
        return reply
    log.warning("reply_without_ids", request=record.address, topic=output.topic)
    envelope = replace(envelope, correlation_id=None, echo=())
    nameless = replace(record, value=None)
    reply = error_reply(nameless, envelope, output.topic, ReplyTooLarge())
    if size_bytes(reply) <= max_bytes:
        return reply
    nameless = replace(nameless, key=record.address.encode())  # compacted topics take nothing without one
    return error_reply(nameless, envelope, output.topic, ReplyTooLarge())


def _keyed(record: Incoming, output: Outgoing, topic: Topic) -> tuple[Incoming, Outgoing]:
    """Compacted topics take nothing without a key: for them a request that has none has its address."""
    if not topic.compacted or output.key is not None:
        return record, output
    key = record.address.encode()
    return replace(record, key=key), replace(output, key=key)


def _partition(record: Incoming, output: Outgoing, count: int) -> int | None:
    """The caller's choice if there is such a partition. Records without a key would be scattered: deltas
    and reply of one request share a partition of the request's address.
    """
    if output.partition is not None and output.partition < count:
        return output.partition
    return None if output.key is not None else zlib.crc32(record.address.encode()) % count
