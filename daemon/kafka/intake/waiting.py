"""A record on its way to the handler, with what decides when its turn comes."""

from dataclasses import dataclass

from daemon.kafka.envelope import Envelope
from daemon.kafka.progress.duplicates import fingerprint_of
from daemon.kafka.record import Incoming
from daemon.kafka.value import members, text

REQUEST_BYTES = 2**20


@dataclass(eq=False, slots=True)
class Waiting:
    """`id`: the value's own, if any. `order`: records of the same one run one after the other; None waits
    for nobody. `holds_turn`: whether those behind it wait for this one.
    """

    record: Incoming
    id: str | None
    correlation_id: str | None
    tenant: str
    priority: int
    deadline: float | None
    order: bytes | None
    fingerprint: bytes | None = None  # what its duplicates have too, see duplicates.py
    holds_turn: bool = False
    suspect: bool = False  # may have crashed the process, see Suspects

    @classmethod
    def of(
        cls,
        record: Incoming,
        *,
        unordered: bool = False,
        group: str | None = None,
        limit_bytes: int = REQUEST_BYTES,
    ) -> "Waiting":
        """`group`: of the daemons that remember each other's replies; None: duplicates are not looked for.
        A value beyond the limit is going to be refused and not read here: it has neither id nor user nor
        duplicates.

        Never raises: what cannot be read here is the handler's to refuse.
        """
        envelope = Envelope.of(record)
        body = record.value or b""
        fits = len(body) <= limit_bytes
        value = members(body) if fits else {}
        user, key = text(value.get("user_id")), record.key
        name, fingerprint = text(value.get("id")) or envelope.correlation_id, None
        if group is not None and name is not None and fits:
            fingerprint = fingerprint_of(group, envelope.tenant, key, name, body)
        # A duplicate waits for its first, also where nothing else would make it wait.
        order = fingerprint if unordered or key is None else key
        return cls(
            record=record,
            id=text(value.get("id")),
            correlation_id=envelope.correlation_id,
            tenant=envelope.tenant or user or (key or b"").decode(errors="replace"),
            priority=envelope.priority,
            deadline=envelope.deadline,
            order=order,
            fingerprint=fingerprint,
        )

    def overdue(self, now: float) -> bool:
        """Whether the deadline has passed or a cancel came; `now` in seconds since 1970."""
        return self.record.cancelled.is_set() or (self.deadline is not None and now >= self.deadline)
