"""Where a request stands: in which conversation, and where in it."""

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from daemon.kafka.record import Incoming


@dataclass(frozen=True, slots=True)
class Place:
    """`conversation` is the same for all its requests and tells nothing about who has it."""

    conversation: str
    topic: str
    partition: int
    offset: int
    attempt: int = 1

    @classmethod
    def of(cls, record: Incoming, group: str, tenant: str | None, user: str | None) -> Self | None:
        """None when the record has no key: then it belongs to no conversation.

        A conversation is one key of one topic, tenant and user, as one consumer group answers it: nobody
        continues somebody else's by sharing the key.
        """
        if record.key is None:
            return None
        parts = json.dumps([group, record.topic, tenant, user, record.key.hex()])
        digest = sha256(parts.encode()).hexdigest()
        return cls(digest, record.topic, record.partition, record.offset, record.attempt)
