"""The audit topic: a record of each executed tool call."""

from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from daemon.kafka.brokers.patience import patiently
from daemon.kafka.record import Outgoing
from schemas.event import ToolAudit

log = structlog.get_logger(__name__)


class AuditTopic:
    """Writes events with `publish`, keyed by request."""

    def __init__(self, topic: str, publish: Callable[[Outgoing], Awaitable[None]]) -> None:
        self._topic, self._publish = topic, publish

    async def write(self, event: ToolAudit) -> None:
        """Returns when the brokers have it, however long they are away; a copy may come before it when an
        acknowledgement was lost. Raises what `publish` raises and cannot pass.
        """
        value = event.model_dump_json(exclude_none=True).encode()
        record = Outgoing(self._topic, event.request_id.encode(), value)
        await patiently(partial(self._publish, record), self._tell)

    def _tell(self, error: Exception, seconds: float) -> None:
        log.warning(
            "audit_not_published",
            topic=self._topic,
            error=str(error) or type(error).__name__,
            again_in_seconds=seconds,
        )
