"""What a request's calls with side effects came to, written down so that another process can go on.

Before such calls run, their intents are kept together with the course: the model's decision and how the
conversation came to it. After each of them its outcome is kept. A redelivered request goes on from its
course: the model is not asked again about a turn that had effects, so it cannot decide otherwise this time.
"""

from collections.abc import Iterable
from typing import Any, Literal

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from daemon.tools.errors import CallTooLarge
from daemon.tools.notes import Notes
from daemon.tools.result import to_json
from daemon.tools.tool import Tool
from schemas.errors import ErrorBody
from schemas.reply import Outcome, Status

log = structlog.get_logger(__name__)

State = Literal["intended", "done", "undoing", "undone", "stuck"]
Verdict = Literal["run", "reuse", "ask", "unknown"]
_COURSE = "course"


class _Kept(BaseModel):
    # A later version may add fields; what it writes must stay readable while versions run side by side.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Step(_Kept):
    """One call with side effects. `number` counts the request's calls from 0, those without effects too.

    `intended`: it may have run. `done`: `outcome` and `result` say how it ended. Then, if the request failed:
    `undoing`: its compensation may have run, `undone`: it has, `stuck`: it failed, see `detail`.
    """

    number: int
    tool: str
    arguments: dict[str, Any]
    state: State
    attempt: int = 1
    outcome: Outcome | None = None
    result: Any = None
    duration_ms: float = 0.0
    detail: str | None = None


class Decision(_Kept):
    """A call that the model decided on."""

    name: str
    arguments: dict[str, Any]


class Failure(_Kept):
    """How the request ended; from then on its steps are only undone."""

    status: Status
    error: ErrorBody


class Course(_Kept):
    """Where the request stood when its last turn with side effects began.

    `first` is the number of the turn's first call, `history` the messages between the request's own ones
    and that turn; None when they were too long to be kept.
    """

    round: int = 0
    first: int = 0
    calls: tuple[Decision, ...] = ()
    history: tuple[dict[str, Any], ...] | None = ()
    failure: Failure | None = None


class Journal:
    """The steps of one request by number, and its course. `key` is its record, `topic/partition/offset`."""

    def __init__(self, key: str, notes: Notes, attempt: int = 1) -> None:
        self.key = key
        self.attempt = attempt
        self.course: Course | None = None
        self.steps: dict[int, Step] = {}
        self.damaged = False
        self._notes = notes
        self._restore()

    async def begin(self, course: Course, steps: Iterable[Step]) -> None:
        """Keep the intents of a turn. None of its calls may run before this returns.

        Raises CallTooLarge when they cannot be kept.
        """
        steps = list(steps)
        limit = self._notes.limit_bytes
        if len(_json(course)) > limit:
            course = course.model_copy(update={"history": None})
        notes = {_COURSE: _json(course)} | {str(step.number): _json(step) for step in steps}
        if max(map(len, notes.values())) > limit:
            raise CallTooLarge
        await self._notes.write(notes)
        self.course = course
        self.steps |= {step.number: step for step in steps}

    def set(self, step: Step) -> None:
        """Keep what became of a step. Nothing that follows is kept before it."""
        self._notes.write_soon({str(step.number): self._fit(step)})
        self.steps[step.number] = step

    async def undoing(self, step: Step) -> Step:
        """Keep that the step's compensation may run from now on."""
        step = step.model_copy(update={"state": "undoing"})
        await self._notes.write({str(step.number): self._fit(step)})
        self.steps[step.number] = step
        return step

    async def fail(self, failure: Failure) -> None:
        """Keep that the request has failed, so that a later delivery goes on undoing it and says the same."""
        course = (self.course or Course()).model_copy(update={"failure": failure, "history": None})
        await self._notes.write({_COURSE: _json(course)})
        self.course = course

    def _fit(self, step: Step) -> bytes:
        limit = self._notes.limit_bytes
        text = _json(step)
        if len(text) > limit:
            room = limit - len(_json(step.model_copy(update={"result": None})))
            text = _json(step.model_copy(update={"result": to_json(step.result, max(0, room // 2))}))
        return text

    def _restore(self) -> None:
        for name, value in self._notes.saved.items():
            try:
                if name == _COURSE:
                    self.course = Course.model_validate_json(value)
                else:
                    step = Step.model_validate_json(value)
                    self.steps[step.number] = step
            except ValidationError as error:
                log.error("journal_not_readable", request=self.key, note=name, error=str(error))
                self.damaged = True
        end = self.course.first + len(self.course.calls) if self.course else 0
        # Intents are kept with or after their course, and run only when all are: these never ran.
        for number in [number for number in self.steps if number >= end and not self.damaged]:
            del self.steps[number]


def verdict(step: Step | None, tool: Tool | None) -> Verdict:
    """What a call needs whose step was found in the journal, None if it was not.

    `run`: it did not run, or may run again with the same key. `reuse`: it is known how it ended. `ask`: its
    `reconcile` hook knows. `unknown`: nobody does.
    """
    if step is None:
        return "run"
    if step.state != "intended":
        return "reuse"
    if tool is None:
        return "unknown"
    if tool.read_only or tool.idempotent:
        return "run"
    return "ask" if tool.reconcile is not None else "unknown"


def _json(kept: _Kept) -> bytes:
    return kept.model_dump_json(exclude_defaults=True).encode()
