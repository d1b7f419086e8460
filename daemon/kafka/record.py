"""Records as the rest of the daemon sees them: no client library, no broker."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from daemon.cancel_token import CancelToken
from daemon.tools.notes import NoNotes, Notes

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request record. `timestamp` is the broker's, in milliseconds since 1970.

    `attempt` starts at 1 and grows with every delivery that may repeat an earlier one. `received`: when it
    came to this process, in seconds of `time.monotonic`. `tries` counts within one delivery. `cancelled` is
    set when the caller does not want the answer any more, at any time. `notes` keep what
    its next delivery must know.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int
    attempt: int = 1
    received: float = field(default_factory=time.monotonic, compare=False)
    tries: int = field(default=1, compare=False)
    cancelled: CancelToken = field(default_factory=CancelToken, compare=False, repr=False)
    notes: Notes = field(default_factory=NoNotes, compare=False, repr=False)

    @property
    def address(self) -> str:
        """`topic/partition/offset`: the record's name, the same at every delivery."""
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to write. Without `partition` the key decides; without `value` it removes the key."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None


Emit = Callable[[Outgoing], Awaitable[None]]
"""Sends a record at once, outside the transaction: deltas, never replies."""

Handler = Callable[[Incoming, Emit], Awaitable[list[Outgoing]]]
"""Turns one request into its terminal records. Must answer bad requests; raises Postponed to be called again
with the same record. Any other exception is a bug.
"""


class Postponed(Exception):
    """A request could not be worked on now. It is tried again after `seconds`; its key waits that long."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"try again in {seconds:.3f} s")
        self.seconds = seconds
