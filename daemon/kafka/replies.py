"""Where a reply goes and what it carries, and the replies this room writes itself."""

from daemon.errors import status_of
from daemon.kafka.envelope import Envelope
from daemon.kafka.record import Incoming, Outgoing
from daemon.kafka.value import members, text
from schemas.errors import AutoGLMError
from schemas.reply import Reply


def request_id(record: Incoming, envelope: Envelope) -> str:
    """`id` of the value where it can be read, else the correlation id, else the record's address."""
    return text(members(record.value or b"").get("id")) or envelope.correlation_id or record.address


def reply_record(record: Incoming, envelope: Envelope, topic: str, value: bytes) -> Outgoing:
    """`value` as an answer to `record`: same key, so that a conversation's replies stay in order."""
    same = topic == envelope.reply_topic
    return Outgoing(topic, record.key, value, envelope.echo, envelope.reply_partition if same else None)


def refusal(record: Incoming, envelope: Envelope, error: AutoGLMError) -> Reply:
    """The terminal reply of a request that nothing was done for."""
    return Reply(
        id=request_id(record, envelope), status=status_of(error), error=error.body(), attempt=record.attempt
    )


def error_reply(record: Incoming, envelope: Envelope, topic: str, error: AutoGLMError) -> Outgoing:
    """The same as a record for `topic`."""
    reply = refusal(record, envelope, error)
    return reply_record(record, envelope, topic, reply.model_dump_json(exclude_none=True).encode())
