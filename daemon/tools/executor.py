"""Runs tool calls. Whatever a tool does, the outcome is a result that the model can read."""

import asyncio
import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import structlog

from daemon.cancel_token import CancelToken
from daemon.threads import in_thread
from daemon.tools.context import ToolContext
from daemon.tools.errors import CallInDoubt, ResultRefused, ToolError
from daemon.tools.places import NotMade, Place, Places, Purpose
from daemon.tools.result import RESULT_BYTES, brief, to_json, to_text
from daemon.tools.tool import Tool, ToolFunction, is_coroutine, takes
from schemas.reply import Outcome

log = structlog.get_logger(__name__)

_COMPENSATION_PAUSES = (0.2, 1.0)
# Before another attempt, doubled each time.
_BACKOFF_SECONDS = 0.1
_LONGEST_BACKOFF_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Execution:
    """What came of a call. `result` is JSON data, {"error": sentence} unless `outcome` is ok.

    `certain`: the tool itself said how the call ended; else it was cut short or failed on the way.
    `attempts`: 0 when the call was not made. `reused`: an earlier delivery of the request made it. `detail`:
    see ToolReport.
    """

    tool: str
    arguments: dict[str, Any]
    result: Any
    outcome: Outcome
    duration_ms: float
    attempts: int = 1
    certain: bool = True
    reused: bool = False
    detail: str | None = None

    @property
    def text(self) -> str:
        """The result as the model reads it: JSON on one line."""
        return to_text(self.result)


@dataclass
class Executor:
    """`timeout` in seconds holds for tools that declare none, `result_bytes` bounds a result's JSON text.

    `executed` is told of every call, also of one that was cancelled, whose outcome is then `unknown`.
    """

    timeout: float = 30.0
    result_bytes: int = RESULT_BYTES
    executed: Callable[[Tool, Execution, ToolContext], None] = lambda tool, execution, context: None
    _places: Places = field(default_factory=Places)
    _abandoned: set[asyncio.Task[Any]] = field(default_factory=set)

    async def run(
        self,
        tool: Tool,
        arguments: dict[str, Any],
        context: ToolContext | None = None,
        cancelled: CancelToken | None = None,
    ) -> Execution:
        """Never raises but for cancellation. Returns in time: a tool that does not is left behind.

        After the deadline, and when `cancelled` is set, no call is made any more. A deadline cuts only calls
        without side effects short: with others it would leave them in doubt.
        """
        context, cancelled = context or ToolContext(), cancelled or CancelToken()
        started = time.perf_counter()
        execution = Execution(tool.name, arguments, None, "unknown", 0.0)
        try:
            execution = await self._run(tool, arguments, context, cancelled)
        finally:
            execution = replace(execution, duration_ms=(time.perf_counter() - started) * 1000)
            self.executed(tool, execution, context)
        return execution

    async def _run(
        self, tool: Tool, arguments: dict[str, Any], context: ToolContext, cancelled: CancelToken
    ) -> Execution:
        execution = Execution(tool.name, arguments, None, "error", 0.0, attempts=0)
        try:
            values = tool.signature.values(arguments)
        except ValueError as error:
            execution = replace(execution, result={"error": _safe(error)})
        except Exception as error:  # of a type's own code, such as __post_init__
            execution = replace(execution, result={"error": _failed(tool, error)})
        else:
            if tool.signature.context_parameter is not None:
                values = {**values, tool.signature.context_parameter: context}
            deadline = context.deadline if tool.read_only else None
            for attempt in range(1, tool.retries + 2):
                try:
                    place = await self._places.take(
                        tool, "call", self._seconds(tool, None), context.deadline, cancelled
                    )
                except NotMade as error:
                    if not execution.attempts:  # else what earlier attempts came to still holds
                        execution = replace(execution, result={"error": str(error)}, certain=False)
                else:
                    outcome, result, certain = await self._attempt(
                        tool, place, partial(tool.function, **values), tool.is_async, deadline
                    )
                    execution = replace(
                        execution,
                        result=result,
                        outcome=outcome,
                        attempts=execution.attempts + 1,
                        certain=certain,
                    )
                pointless = _passed(context.deadline) or cancelled.is_set()
                if execution.certain or pointless or attempt > tool.retries:
                    break
                await asyncio.sleep(min(_BACKOFF_SECONDS * 2 ** (attempt - 1), _LONGEST_BACKOFF_SECONDS))
        return execution

    async def compensate(
        self, tool: Tool, arguments: dict[str, Any], result: Any, context: ToolContext
    ) -> tuple[Outcome, Any]:
        """(ok, anything) when the call is undone. Tries a few times: what stands must be undone by hand."""
        assert tool.compensate is not None
        given = (arguments, result, context) if takes(tool.compensate, 3) else (arguments, result)
        started = time.perf_counter()
        for pause in (*_COMPENSATION_PAUSES, None):
            outcome, said = await self._settle(tool, "undo", tool.compensate, *given)
            if outcome == "ok" or pause is None:
                break
            await asyncio.sleep(pause)
        ended: Outcome = "compensated" if outcome == "ok" else "compensation_failed"
        duration_ms = (time.perf_counter() - started) * 1000
        self.executed(tool, Execution(tool.name, arguments, said, ended, duration_ms), context)
        return outcome, said

    async def reconcile(
        self, tool: Tool, arguments: dict[str, Any], context: ToolContext
    ) -> tuple[Outcome, Any]:
        """(ok, the call's result or None if it did not take place); else that is not known."""
        assert tool.reconcile is not None
        return await self._settle(tool, "ask", tool.reconcile, arguments, context)

    async def _settle(
        self, tool: Tool, purpose: Purpose, hook: ToolFunction, *given: Any
    ) -> tuple[Outcome, Any]:
        try:
            place = await self._places.take(tool, purpose, self._seconds(tool, None))
        except NotMade as error:
            return "error", {"error": str(error)}
        outcome, said, _ = await self._attempt(tool, place, partial(hook, *given), is_coroutine(hook), None)
        return outcome, said

    async def _attempt(
        self,
        tool: Tool,
        place: Place,
        function: Callable[[], Any],
        is_async: bool,
        deadline: float | None,
    ) -> tuple[Outcome, Any, bool]:
        """(outcome, result, whether the function itself said so: then another attempt would not help)."""
        task = asyncio.ensure_future(self._call(tool, function, is_async, place))
        task.add_done_callback(lambda _: place.leave())  # also of one that is cancelled before it begins
        seconds = self._seconds(tool, deadline)
        try:
            done, _ = await asyncio.wait({task}, timeout=seconds)
        except asyncio.CancelledError:
            self._abandon(task)
            raise
        if not done:
            # Cancelled but not awaited: a tool may ignore its cancellation.
            self._abandon(task)
            return "timeout", {"error": f"{tool.name} did not answer within {seconds:.3g} s"}, False
        try:
            return "ok", task.result(), True
        except asyncio.CancelledError:
            return "error", {"error": f"{tool.name} was cancelled"}, False
        except Exception as error:
            return _told(tool, error)
        except BaseException as error:  # as extensions in Rust raise when they panic; nobody else catches it
            return _told(tool, RuntimeError(repr(error)))

    def _seconds(self, tool: Tool, deadline: float | None) -> float:
        seconds = self.timeout if tool.timeout is None else tool.timeout
        return seconds if deadline is None else min(seconds, max(0.0, deadline - time.monotonic()))

    async def _call(self, tool: Tool, function: Callable[[], Any], is_async: bool, place: Place) -> Any:
        try:
            if is_async:
                returned = self._plain(await function())
            else:
                place.share()
                returned = await in_thread(lambda: self._plain(function()), f"tool-{tool.name}", place.leave)
            if inspect.isawaitable(returned):  # of a lambda, say, that calls a coroutine function
                returned = to_json(await returned, self.result_bytes)
            return returned
        except (SystemExit, KeyboardInterrupt) as error:  # would end the event loop
            raise RuntimeError(repr(error)) from error

    def _plain(self, value: Any) -> Any:
        """JSON data; what is still to be awaited stays as it is, for only the event loop can."""
        return value if inspect.isawaitable(value) else to_json(value, self.result_bytes)

    def _abandon(self, task: asyncio.Task[Any]) -> None:
        self._abandoned.add(task)  # asyncio itself keeps only weak references
        task.add_done_callback(self._forget)
        task.cancel()

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not complain


def _told(tool: Tool, error: Exception) -> tuple[Outcome, Any, bool]:
    """What a tool's own exception means, as `_attempt` says it."""
    match error:
        case ResultRefused() if not tool.read_only:
            # What it was to do, it has done: nobody should do it again for want of a result.
            return "ok", {"warning": f"the call was made, but {_safe(error)}"}, True
        case ToolError():
            return "error", {"error": _safe(error)}, True
        case CallInDoubt():
            return ("error" if tool.read_only else "unknown"), {"error": _safe(error)}, False
        case _:
            return "error", {"error": _failed(tool, error)}, False


def _failed(tool: Tool, error: Exception) -> str:
    """What the model is told of a fault in the tool's own code, which its author finds in the log."""
    log.warning("tool failed", tool=tool.name, origin=tool.origin, exc_info=error)
    return f"{type(error).__name__}: {_safe(error)}"


def _passed(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline


def _safe(error: BaseException) -> str:
    """The exception's text, bounded and fit for UTF-8, even if its __str__ fails."""
    try:
        text = str(error)
    except Exception:
        text = "(no message)"
    return brief(text)
