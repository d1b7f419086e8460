"""The calls of one request: run at most as often as their tools allow, undone when the request fails."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from daemon.cancel_token import CancelToken
from daemon.errors import ToolOutcomeUnknown
from daemon.tools.context import ToolContext
from daemon.tools.executor import Execution, Executor
from daemon.tools.journal import Course, Decision, Failure, Journal, Step, verdict
from daemon.tools.tool import Tool
from schemas.reply import Outcome, ToolReport

log = structlog.get_logger(__name__)


Planned = tuple[Tool | None, Decision]
"""A call and its tool; None when that is gone since an earlier delivery decided on the call."""


class Saga:
    """`find` gives the tool of a name, None when there is none any more.

    Honest limit: between a committed intent and the tool's own first action nothing can hold a frozen process
    back; if its partition moved meanwhile, the tool sees the same idempotency key twice.
    """

    def __init__(self, executor: Executor, journal: Journal, find: Callable[[str], Tool | None]) -> None:
        self._executor = executor
        self._journal = journal
        self._find = find
        self._next = 0
        self._executions: dict[int, Execution] = {}
        # What earlier deliveries may have done.
        self._in_doubt = {step.number for step in journal.steps.values() if step.state == "intended"}
        for step in journal.steps.values():
            self._executions[step.number] = replace(_execution(step), reused=True)

    @property
    def failure(self) -> Failure | None:
        """How an earlier delivery of the request failed: what is left is to `undo`."""
        return self._journal.course.failure if self._journal.course else None

    @property
    def started(self) -> bool:
        return bool(self._executions)

    def resume(self) -> Course | None:
        """The turn to go on from: `act` on it anew. None when no call with side effects was begun.

        Raises ToolOutcomeUnknown when there was one but the way to it is not known.
        """
        course = self._journal.course
        if self._journal.damaged or (course is not None and course.history is None):
            raise ToolOutcomeUnknown(
                "An earlier delivery of this request ran tools, and the journal does not tell how to go on; "
                "see `tools` for what happened before asking again."
            )
        if course is not None:
            self._next = course.first
        return course

    async def act(
        self,
        round_: int,
        history: Sequence[dict[str, Any]],
        calls: Sequence[Planned],
        context: ToolContext,
        cancelled: CancelToken | None = None,
    ) -> list[Execution]:
        """Run the calls of one turn side by side; results in the order of the calls. When `cancelled` is set,
        those that wait for a place are not made, and the others come to their ends.

        `history`: the messages that the agent added before the turn. Raises ToolOutcomeUnknown when a call
        may or may not have had its effect, CallTooLarge; never a tool's own errors.
        """
        first = self._next
        self._next += len(calls)
        turn = {first + index: call for index, call in enumerate(calls)}
        decisions = tuple(made for _, made in calls)
        await self._begin(
            Course(round=round_, first=first, calls=decisions, history=tuple(history)), turn, context
        )
        for number, (_, made) in turn.items():
            self._executions.setdefault(number, Execution(made.name, made.arguments, None, "unknown", 0.0))
        running = (self._run(number, *call, context, cancelled) for number, call in turn.items())
        # Whatever becomes of one of them, nothing may be undone while another still runs.
        for failure in await asyncio.gather(*running, return_exceptions=True):
            if failure is not None:
                raise failure
        self._refuse_unknown(turn)
        return [self._executions[number] for number in turn]

    async def undo(self, failure: Failure, context: ToolContext) -> None:
        """Compensate what was done, the last step first. Raises nothing that a tool does."""
        steps = self._journal.steps
        if not steps:
            return
        if self.failure is None:
            await self._journal.fail(failure)
        for number in sorted(steps, reverse=True):
            step = await self._undo(steps[number], self._find(steps[number].tool), context)
            self._executions[number] = replace(_execution(step), reused=self._executions[number].reused)

    def reports(self) -> list[ToolReport]:
        """What is known of every call, in their order."""
        return [
            ToolReport(
                name=execution.tool,
                arguments=execution.arguments,
                result=execution.result,
                duration_ms=round(execution.duration_ms, 3),
                outcome=execution.outcome,
                reused=execution.reused,
                detail=execution.detail,
            )
            for _, execution in sorted(self._executions.items())
        ]

    async def _begin(self, course: Course, turn: Mapping[int, Planned], context: ToolContext) -> None:
        """Settle what earlier deliveries left in doubt, and keep the intents of what is to run."""
        steps = self._journal.steps
        for number, (tool, _) in turn.items():
            needed = verdict(steps.get(number), tool)
            if needed in ("ask", "unknown"):
                await self._settle(steps[number], tool, context)
        self._refuse_unknown(turn)
        intents = [
            Step(
                number=number,
                tool=made.name,
                arguments=made.arguments,
                state="intended",
                attempt=self._journal.attempt,
            )
            for number, (tool, made) in turn.items()
            if (number in steps and steps[number].state == "intended")
            or (number not in steps and tool is not None and not tool.read_only)
        ]
        if intents:
            await self._journal.begin(course, intents)

    async def _run(
        self,
        number: int,
        tool: Tool | None,
        made: Decision,
        context: ToolContext,
        cancelled: CancelToken | None,
    ) -> None:
        step = self._journal.steps.get(number)
        context = self._context(context, number)
        if step is not None and step.state != "intended":
            execution = replace(_execution(step), reused=True)
            log.info("tool_outcome_reused", tool=made.name, key=context.idempotency_key)
        elif tool is None:
            gone = {"error": f"there is no tool {made.name} any more"}
            execution = Execution(made.name, made.arguments, gone, "error", 0.0)
        else:
            execution = await self._executor.run(tool, made.arguments, context, cancelled)
            if step is not None:
                execution = await self._ended(step, tool, execution, context)
        self._executions[number] = execution

    async def _ended(self, step: Step, tool: Tool, execution: Execution, context: ToolContext) -> Execution:
        """Keep how a call ended; a tool that was cut short or failed on the way may still have acted."""
        if not execution.certain and tool.reconcile is not None:
            outcome, said = await self._executor.reconcile(tool, step.arguments, context)
            if outcome == "ok" and said is not None:
                execution = replace(execution, outcome="ok", result=said, certain=True)
            elif outcome == "ok":
                self._in_doubt.discard(step.number)
                # What timed out, now or in an earlier attempt, may still come to it.
                if execution.outcome == "unknown" and execution.attempts == 1:
                    execution = replace(execution, outcome="error")
        if execution.outcome == "error" and not execution.attempts and step.number in self._in_doubt:
            execution = replace(execution, outcome="unknown")  # not made now, but maybe before
        update = {
            "state": "done",
            "outcome": execution.outcome,
            "result": execution.result,
            "duration_ms": execution.duration_ms,
        }
        self._journal.set(step.model_copy(update=update))
        return execution

    async def _settle(self, step: Step, tool: Tool | None, context: ToolContext) -> Step:
        """A step in doubt as its tool's `reconcile` knows it: done, unknown, or as it is if it never ran."""
        update: dict[str, Any] = {"state": "done", "outcome": "unknown"}
        if tool is not None and tool.reconcile is not None:
            key = self._context(context, step.number)
            outcome, said = await self._executor.reconcile(tool, step.arguments, key)
            if outcome == "ok" and said is None:
                self._in_doubt.discard(step.number)
                return step
            if outcome == "ok":
                update |= {"outcome": "ok", "result": said}
        log.warning("tool_in_doubt", tool=step.tool, step=f"{self._journal.key}/{step.number}", **update)
        step = step.model_copy(update=update)
        self._journal.set(step)
        self._executions[step.number] = replace(_execution(step), reused=True)
        return step

    def _refuse_unknown(self, turn: Mapping[int, Planned]) -> None:
        """What timed out may still be going on: that is as unknown as what a crash cut off."""
        steps = self._journal.steps
        unknown = [
            steps[number].tool
            for number in turn
            if number in steps and steps[number].outcome in ("unknown", "timeout")
        ]
        if unknown:
            raise ToolOutcomeUnknown(
                f"Nobody knows whether {', '.join(unknown)} had its effect; "
                "look it up where the tool acts before asking again."
            )

    async def _undo(self, step: Step, tool: Tool | None, context: ToolContext) -> Step:
        if step.state == "intended":
            step = await self._settle(step, tool, context)
            if step.state == "intended":
                never = {"state": "done", "outcome": "error", "result": {"error": "it was not carried out"}}
                step = step.model_copy(update=never)
                self._journal.set(step)
        if step.state == "done" and step.outcome == "ok" and tool is not None and tool.compensate is not None:
            step = await self._journal.undoing(step)
        if step.state != "undoing":
            return step
        outcome, said = "error", {"error": f"the tool {step.tool} cannot undo it any more"}
        if tool is not None and tool.compensate is not None:
            key = replace(context, deadline=None, idempotency_key=f"{self._journal.key}/{step.number}/undo")
            outcome, said = await self._executor.compensate(tool, step.arguments, step.result, key)
        update = {"state": "undone"} if outcome == "ok" else {"state": "stuck", "detail": said["error"]}
        log.warning("tool_compensated", tool=step.tool, step=f"{self._journal.key}/{step.number}", **update)
        step = step.model_copy(update=update)
        self._journal.set(step)
        return step

    def _context(self, context: ToolContext, number: int) -> ToolContext:
        return replace(context, idempotency_key=f"{self._journal.key}/{number}")


def _execution(step: Step) -> Execution:
    """A step as the reply tells it."""
    outcome: Outcome = step.outcome or "unknown"
    if step.state in ("undone", "stuck"):
        outcome = "compensated" if step.state == "undone" else "compensation_failed"
    return Execution(step.tool, step.arguments, step.result, outcome, step.duration_ms, detail=step.detail)
