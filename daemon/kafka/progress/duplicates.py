"""Requests that come twice from upstream: the second gets the first one's reply.

The same request is the same key, id (of the value, else the correlation id), tenant and value, byte for byte;
the same id with another value is another request, and nobody gets another tenant's reply. Remembered are
replies that say `ok` or report tool calls: whoever was refused may ask again. A remembered reply carries the
header `request-fingerprint`, by which the partition's next owner finds it in the default reply topic; one
that went to a topic of the caller's choice is remembered only as long as the process has the partition.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pydantic_core import from_json

from daemon.kafka.envelope import Envelope
from daemon.kafka.record import Incoming, Outgoing
from daemon.kafka.replies import reply_record

FINGERPRINT = "request-fingerprint"


@dataclass(frozen=True, slots=True)
class First:
    """A reply as it was given: `address` of the request, `timestamp` in seconds since 1970."""

    fingerprint: bytes
    address: str
    timestamp: float
    value: bytes

    def again(self, record: Incoming, default_topic: str) -> Outgoing:
        """The same reply to `record`, where and under which correlation id that one asks for it."""
        envelope = Envelope.of(record)
        output = reply_record(record, envelope, envelope.reply_topic or default_topic, self.value)
        return replace(output, headers=(*output.headers, ("duplicate-of", self.address.encode())))


class Window:
    """The replies of one partition's last requests, at most `most` and `seconds` old."""

    def __init__(self, seconds: float, most: int, replies: Iterable[First] = ()) -> None:
        """`replies`: in the order they were given. `seconds`: 0 remembers nothing."""
        self._seconds, self._most = seconds, most
        self._firsts: OrderedDict[bytes, First] = OrderedDict()
        for first in replies:
            self._remember(first)

    def find(self, fingerprint: bytes | None) -> First | None:
        first = self._firsts.get(fingerprint) if fingerprint is not None else None
        return first if first is not None and first.timestamp > time.time() - self._seconds else None

    def note(self, record: Incoming, outputs: Iterable[Outgoing]) -> None:
        """Remember the reply among what answered `record`."""
        for output in outputs:
            fingerprint = dict(output.headers).get(FINGERPRINT)
            if fingerprint is not None and output.value is not None:
                self._remember(First(fingerprint, record.address, time.time(), output.value))

    def _remember(self, first: First) -> None:
        if not self._seconds:
            return
        # The first one stays the first, unless it is too old to count.
        if self.find(first.fingerprint) is None:
            self._firsts.pop(first.fingerprint, None)
            self._firsts[first.fingerprint] = first
        oldest = time.time() - self._seconds
        while self._firsts and (
            len(self._firsts) > self._most or next(iter(self._firsts.values())).timestamp <= oldest
        ):
            self._firsts.popitem(last=False)


def fingerprint_of(group: str, tenant: str | None, key: bytes | None, id_: str, value: bytes) -> bytes:
    """32 hexadecimal digits. Another group answers the same requests anew."""
    digest = hashlib.blake2b(digest_size=16)
    whose = (group.encode(), b"" if tenant is None else b"t" + tenant.encode())
    for part in (*whose, b"" if key is None else b"k" + key, id_.encode(errors="replace"), value):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest().encode()


def fingerprinted(outputs: list[Outgoing], fingerprint: bytes | None) -> list[Outgoing]:
    """`outputs`, the first of which is the reply, marked if that is one to remember."""
    if fingerprint is None or not outputs or not _worth_remembering(outputs[0].value):
        return outputs
    reply = outputs[0]
    return [replace(reply, headers=(*reply.headers, (FINGERPRINT, fingerprint))), *outputs[1:]]


def _worth_remembering(value: bytes | None) -> bool:
    try:
        reply = from_json(value or b"")
    except ValueError:
        return False
    return isinstance(reply, dict) and bool(reply.get("status") == "ok" or reply.get("tools"))
