"""One request on its way through the agent."""

import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from daemon.cancel_token import CancelToken
from daemon.errors import Cancelled, DeadlineExceeded
from daemon.memory.place import Place
from daemon.tools.context import ToolContext
from daemon.tools.notes import NoNotes, Notes
from engines.errors import EngineFailed
from schemas.errors import AutoGLMError
from schemas.reply import Delta
from schemas.request import Request

EmitDelta = Callable[[Delta], Awaitable[None]]


@dataclass
class Job:
    """A request and what its record says beside it. Times are seconds of `time.monotonic`.

    `key` names the record, the same on every delivery and never the same for two records: side effects are
    recognized by it, for which the caller's own `id` is not unique enough. `topic` is where it was read,
    `tenant` what the record's header says, `place` where it stands in what the daemon remembers. Jobs of one
    `conversation` are best answered where its KV is. `emit` takes the deltas of a streamed answer, `notes`
    keep its journal.
    """

    request: Request
    id: str
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    arrived: float = field(default_factory=time.monotonic)
    deadline: float | None = None
    priority: int = 0
    attempt: int = 1
    emit: EmitDelta | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    notes: Notes = field(default_factory=NoNotes)
    topic: str = ""
    tenant: str | None = None
    place: Place | None = None
    conversation: bytes | None = None
    cancelled: CancelToken = field(default_factory=CancelToken)
    last_try: bool = True
    _deltas: int = 0

    def may_start_over(self, error: AutoGLMError) -> bool:
        """Whether the job, ended by `error`, may be run again as if nothing had happened: no delta was seen
        outside, and what tools did is in `notes`. An EngineFailed ends the process: the next try is a new
        delivery there, whose deltas carry another attempt.
        """
        unseen = self._deltas == 0 or isinstance(error, EngineFailed)
        return error.retryable and unseen and not self.last_try

    def cancel(self) -> None:
        """End the job with status `cancelled`, from the event loop's thread. Harmless when it has ended."""
        self.cancelled.set()

    def check(self) -> None:
        """Raises Cancelled or DeadlineExceeded when there is no point in going on."""
        if self.cancelled.is_set():
            raise Cancelled
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise DeadlineExceeded

    def context(self) -> ToolContext:
        """What tools learn about the job; each call adds its key."""
        return ToolContext(
            request_id=self.id,
            user_id=self.request.user_id,
            tenant=self.tenant,
            topic=self.topic,
            record=self.key,
            deadline=self.deadline,
            headers=self.headers,
        )

    async def stream(self, *, content: str | None = None, tool: str | None = None) -> None:
        """Publish the next delta, if the caller wants deltas."""
        if self.request.stream and self.emit is not None:
            delta = Delta(id=self.id, attempt=self.attempt, index=self._deltas, content=content, tool=tool)
            self._deltas += 1
            await self.emit(delta)
