"""What a job has done so far: the part of the reply that is filled in whatever happens."""

import time
from dataclasses import dataclass, field

from daemon.agent.job import Job
from daemon.tools.saga import Saga
from engines.serve.prompt import Completion
from schemas.reply import Intent, Timings, Usage


@dataclass
class Record:
    job: Job
    saga: Saga
    model: str | None = None
    intent: Intent | None = None
    _completions: list[Completion] = field(default_factory=list)
    _before_first: float = 0.0
    _tools_ms: float = 0.0

    @property
    def started(self) -> bool:
        """Whether the model has said anything yet, for this delivery or an earlier one."""
        return bool(self._completions) or self.saga.started

    @property
    def completion_tokens(self) -> int:
        return sum(completion.completion_tokens for completion in self._completions)

    def generated(self, completion: Completion, submitted: float) -> None:
        """One generation; `submitted` is when it was handed to the engine (`time.monotonic`)."""
        if not self._completions:
            self._before_first = (submitted - self.job.arrived) * 1000
        self._completions.append(completion)

    def acted(self, milliseconds: float) -> None:
        """How long the request waited for calls that ran together."""
        self._tools_ms += milliseconds

    def usage(self) -> Usage:
        return Usage(
            prompt_tokens=sum(completion.prompt_tokens for completion in self._completions),
            cached_tokens=sum(completion.cached_tokens for completion in self._completions),
            completion_tokens=self.completion_tokens,
        )

    def timings(self) -> Timings:
        """Until now."""
        first = self._completions[0] if self._completions else None
        first_token = None
        if first is not None and first.completion_tokens:
            first_token = round(self._before_first + first.first_token_ms, 3)
        return Timings(
            queue_ms=round(self._before_first + first.queue_ms, 3) if first else 0.0,
            prefill_ms=round(sum(completion.prefill_ms for completion in self._completions), 3),
            first_token_ms=first_token,
            decode_ms=round(sum(completion.decode_ms for completion in self._completions), 3),
            tools_ms=round(self._tools_ms, 3),
            total_ms=round((time.monotonic() - self.job.arrived) * 1000, 3),
        )
