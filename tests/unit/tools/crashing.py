"""A world in which the process may die between any two steps of a request, and what tools did to it."""

import asyncio
from collections import Counter
from contextvars import ContextVar

from daemon.errors import TooManyRounds
from daemon.tools.context import ToolContext
from daemon.tools.executor import Executor
from daemon.tools.journal import Decision, Failure, Journal
from daemon.tools.registry import Registry, register_tool
from daemon.tools.saga import Saga
from daemon.tools.tool import Tool
from schemas.errors import AutoGLMError

KEY = "requests/0/7"


class Crash(BaseException):
    """The process is gone: nothing catches this."""


class World:
    """Everything outside the process. `effects` counts the effects by idempotency key."""

    def __init__(self) -> None:
        self.saved: dict[str, bytes] = {}
        self.effects: Counter[str] = Counter()
        self.undone: Counter[str] = Counter()
        self.results: dict[str, dict[str, str]] = {}


class Process:
    """One life. It dies at the `crash_at`-th point it passes, with what it had not yet written or, if
    `flushed`, just after that was written. It is also the `Notes` of its one request.
    """

    limit_bytes = 10_000

    def __init__(self, world: World, crash_at: int | None = None, flushed: bool = False) -> None:
        self.world, self._left, self._flushed = world, crash_at, flushed
        self.saved = dict(world.saved)
        self._pending: dict[str, bytes] = {}
        self._dead = False

    def point(self) -> None:
        if self._dead or self._left == 0:
            if not self._dead and self._flushed:
                self.world.saved |= self._pending
            self._dead = True
            raise Crash
        if self._left is not None:
            self._left -= 1

    async def write(self, notes) -> None:
        self.point()
        self.world.saved |= self._pending | notes
        self._pending.clear()
        self.point()

    def write_soon(self, notes) -> None:
        self._pending |= notes

    async def deliver(self, plan: list[list[str]], fails: bool):
        """(status, reports), with the agent's part in it: the model decides as `plan` says."""
        _process.set(self)
        context, find = ToolContext(), TOOLS.get
        saga = Saga(Executor(), Journal(KEY, self), find)
        failure = saga.failure
        if failure is None:
            try:
                course, history = saga.resume(), []
                turns = [[Decision(name=name, arguments={}) for name in turn] for turn in plan]
                if course is not None:
                    history = list(course.history)
                    turns = [course.calls, *turns[course.round + 1 :]]
                for round_, turn in enumerate(turns, course.round if course else 0):
                    calls = [(find(made.name), made) for made in turn]
                    executions = await saga.act(round_, history, calls, context)
                    history.append({"calls": [made.name for made in turn], "results": len(executions)})
                if fails:
                    raise TooManyRounds
                self.point()
                return "ok", saga.reports()
            except AutoGLMError as error:
                failure = Failure(status="error", error=error.body())
        await saga.undo(failure, context)
        self.point()
        return failure.error.code.value, saga.reports()


_process: ContextVar[Process] = ContextVar("process")


async def act(context: ToolContext) -> dict[str, str]:
    process, key = _process.get(), context.idempotency_key
    process.point()
    await asyncio.sleep(0)
    process.point()
    process.world.effects[key] += 1
    process.world.results[key] = {"made": key}
    process.point()
    return {"made": key}


async def once(context: ToolContext) -> dict[str, str]:
    """Recognizes its key."""
    process = _process.get()
    process.point()
    process.world.effects[context.idempotency_key] = 1
    process.point()
    return {"made": context.idempotency_key}


async def look() -> str:
    _process.get().point()
    return "seen"


async def find(arguments, context):
    _process.get().point()
    return _process.get().world.results.get(context.idempotency_key)


async def undo(arguments, result, context):
    process = _process.get()
    process.point()
    process.world.undone[result["made"]] = 1
    process.point()


def _declared() -> dict[str, Tool]:
    with Registry().collecting() as registry:
        register_tool(look, description="d", read_only=True)
        for name, function, declared in (
            ("plain", act, {}),
            ("asked", act, {"reconcile": find}),
            ("once", once, {"idempotent": True}),
        ):
            register_tool(function, name=name, description="d", **declared)
            register_tool(function, name=f"{name}_undo", description="d", compensate=undo, **declared)
    return {tool.name: tool for tool in registry}


TOOLS = _declared()
