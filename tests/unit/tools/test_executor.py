import asyncio
import threading
import time
from dataclasses import dataclass, replace
from functools import wraps

import pytest
from pydantic import BaseModel, computed_field

from daemon import threads
from daemon.cancel_token import CancelToken
from daemon.tools.context import ToolContext
from daemon.tools.executor import Executor
from daemon.tools.registry import Registry, register_tool
from daemon.tools.schema_signature import SchemaSignature
from daemon.tools.tool import Tool
from openautoglm import CallInDoubt, ToolError


@dataclass
class Place:
    city: str


def declared(function, **options):
    with Registry().collecting() as registry:
        register_tool(function, name="t", description="d", **options)
    return registry.get("t")


async def run(function, arguments=None, context=None, **options):
    return await Executor().run(declared(function, **options), arguments or {}, context)


async def test_sync_functions_run_in_a_thread_and_async_ones_do_not():
    def sync(place: Place):
        return [place.city, threading.current_thread() is threading.main_thread()]

    async def asynchronous(place: Place):
        return [place.city, threading.current_thread() is threading.main_thread()]

    first = await run(sync, {"place": {"city": "Köln"}})
    assert (first.result, first.outcome, first.text) == (["Köln", False], "ok", '["Köln", false]')
    assert first.duration_ms > 0
    assert (await run(asynchronous, {"place": {"city": "x"}})).result == ["x", True]


async def test_wrong_arguments_do_not_reach_the_function():
    def never(amount: float):
        raise AssertionError

    execution = await run(never, {"amount": "much"})
    assert execution.outcome == "error"
    assert execution.result["error"].startswith("amount: ")


async def test_what_is_wrong_with_long_arguments_is_told_briefly():
    async def never(**values):
        raise AssertionError

    schema = {"type": "object", "properties": {"x": {"type": "string", "maxLength": 5}}}
    tool = Tool("t", "d", never, SchemaSignature(schema, "here"), "here")
    execution = await Executor().run(tool, {"x": "y" * 100_000})
    assert execution.result["error"].startswith("x: 'yyy") and len(execution.text) < 2000


async def test_a_type_that_fails_on_the_arguments_is_a_result():
    @dataclass
    class Known:
        city: str

        def __post_init__(self):
            {"Köln": 1}[self.city]

    def never(place: Known):
        raise AssertionError

    execution = await run(never, {"place": {"city": "Ulm"}})
    assert (execution.outcome, execution.result) == ("error", {"error": "KeyError: 'Ulm'"})


async def test_failures_are_results():
    def refuses():
        raise ToolError("order A1 not found")

    def breaks():
        return 1 / 0

    def leaves():
        raise SystemExit(3)

    async def leaves_the_loop():
        raise SystemExit(3)

    def stops():
        raise StopIteration

    async def cancels():
        raise asyncio.CancelledError

    class Panic(BaseException): ...

    async def panics():
        raise Panic("index out of bounds")

    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    def mute():
        raise Mute

    assert (await run(refuses)).result == {"error": "order A1 not found"}
    assert (await run(breaks)).result == {"error": "ZeroDivisionError: division by zero"}
    for function in (leaves, leaves_the_loop, stops, cancels, panics, mute):
        execution = await run(function)
        assert execution.outcome == "error"
        assert isinstance(execution.result["error"], str)


async def test_poisoned_results_are_errors():
    def opaque():
        return object()

    execution = await run(opaque, read_only=True)
    assert execution.outcome == "error"
    assert execution.result["error"].startswith("the tool returned something that is not JSON")


@pytest.mark.parametrize("kind", ["sync", "async", "stubborn"])
async def test_timeouts_return_in_time(kind):
    release = threading.Event()

    def sync():
        release.wait(5)

    async def polite():
        await asyncio.sleep(5)

    async def stubborn():
        while not release.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    function = {"sync": sync, "async": polite, "stubborn": stubborn}[kind]
    started = time.monotonic()
    execution = await run(function, timeout=0.05)
    assert time.monotonic() - started < 1
    assert execution.outcome == "timeout"
    assert execution.result == {"error": "t did not answer within 0.05 s"}
    release.set()
    await asyncio.sleep(0.05)


class Lazy(BaseModel):
    @computed_field
    def total(self) -> int:
        return {}["total"]


@pytest.mark.parametrize("result", [object(), Lazy()])
async def test_what_was_done_is_not_undone_by_a_poisoned_result(result):
    """The model must not make the call again, nor may a failing request leave it standing."""
    done = []

    def acts():
        done.append(1)
        return result

    execution = await run(acts)
    assert (execution.outcome, execution.certain, execution.attempts) == ("ok", True, 1)
    assert execution.result["warning"].startswith("the call was made, but the tool returned")
    tool = declared(acts, compensate=lambda arguments, given: result)
    assert (await Executor().compensate(tool, {}, None, ToolContext()))[0] == "ok"


async def test_a_call_in_doubt_is_unknown_unless_it_only_reads():
    def lost():
        raise CallInDoubt("no answer")

    execution = await run(lost)
    assert (execution.outcome, execution.result) == ("unknown", {"error": "no answer"})
    execution = await run(lost, read_only=True, retries=1)
    assert (execution.outcome, execution.attempts) == ("error", 2)
    execution = await run(lost, idempotent=True, retries=1)
    assert (execution.outcome, execution.attempts) == ("unknown", 2)


async def test_hung_calls_do_not_pile_up():
    release, started = threading.Event(), []

    def hangs():
        started.append(1)
        release.wait(5)

    tool, executor = declared(hangs, timeout=0.03, concurrency=2), Executor()
    executions = await asyncio.gather(*(executor.run(tool, {}) for _ in range(5)))
    # Nobody can say of the first two whether they had their effect; the others never began.
    assert [execution.outcome for execution in executions] == ["timeout"] * 2 + ["error"] * 3
    assert executions[4].result == {"error": "t is busy; the call was not made"}
    assert len(started) == 2
    release.set()
    await asyncio.sleep(0.05)
    assert (await executor.run(tool, {})).outcome == "ok"


@pytest.mark.parametrize("why", ["deadline", "cancelled"])
async def test_a_call_that_nobody_waits_for_any_more_is_not_made(why):
    made, begun, release, cancelled = [], asyncio.Event(), asyncio.Event(), CancelToken()

    async def pay(number: int):
        made.append(number)
        begun.set()
        await release.wait()

    tool, executor = declared(pay, concurrency=1, timeout=30), Executor()
    first = asyncio.create_task(executor.run(tool, {"number": 1}))
    await begun.wait()
    context = ToolContext(deadline=time.monotonic() + 0.05 if why == "deadline" else None)
    waiting = asyncio.create_task(executor.run(tool, {"number": 2}, context, cancelled))
    await asyncio.sleep(0)
    if why == "cancelled":
        cancelled.set()
    execution = await waiting
    release.set()
    assert (execution.outcome, execution.attempts, (await first).outcome) == ("error", 0, "ok")
    assert execution.result["error"].endswith("the call was not made")
    # Nor is one whose place is free.
    assert (await executor.run(tool, {"number": 3}, context, cancelled)).attempts == 0
    assert made == [1] and (await executor.run(tool, {"number": 4})).outcome == "ok"


async def test_an_attempt_that_is_not_made_hides_no_earlier_one():
    def lost():
        raise CallInDoubt("no answer")

    tool, executor = declared(lost, idempotent=True, retries=1), Executor()
    take, asked = executor._places.take, []

    async def taken_once(*given):
        asked.append(given)
        return await take(*given) if len(asked) == 1 else await take(*given[:3], 0.0)

    executor._places.take = taken_once
    execution = await executor.run(tool, {})
    assert (len(asked), execution.outcome, execution.attempts) == (2, "unknown", 1)


async def test_hung_calls_leave_places_for_undoing_and_asking():
    release = threading.Event()
    tool = declared(
        lambda: release.wait(5),
        timeout=0.03,
        concurrency=1,
        compensate=lambda arguments, result: "undone",
        reconcile=lambda arguments, context: "asked",
    )
    executor = Executor()
    try:
        assert (await executor.run(tool, {})).outcome == "timeout"
        executor.timeout, tool = 5.0, replace(tool, timeout=None)  # what has a place is not hurried
        assert await executor.reconcile(tool, {}, ToolContext()) == ("ok", "asked")
        assert await executor.compensate(tool, {}, None, ToolContext()) == ("ok", "undone")
    finally:
        release.set()


async def test_a_call_has_its_whole_time_however_long_it_waited_for_a_place(monkeypatch):
    loop = asyncio.get_running_loop()
    passed, clock = [0.0], loop.time
    monkeypatch.setattr(loop, "time", lambda: clock() + passed[0])
    begun, release = ([asyncio.Event(), asyncio.Event()] for _ in range(2))

    async def act(number: int):
        begun[number].set()
        await release[number].wait()

    tool, executor = declared(act, timeout=100, concurrency=1), Executor()
    calls = [asyncio.create_task(executor.run(tool, {"number": number})) for number in range(2)]
    for number in range(2):
        await begun[number].wait()
        passed[0] += 60
        await asyncio.sleep(0.01)  # what is overdue now would end
        release[number].set()
    assert [(await call).outcome for call in calls] == ["ok", "ok"]


async def test_a_thread_that_is_free_runs_the_next_call_and_a_hung_one_does_not():
    release = threading.Event()

    def where(hang: bool):
        if hang:
            release.wait(5)
        return [threading.current_thread().name, threading.get_ident()]

    tool, executor = declared(where, timeout=0.5), Executor()
    try:
        name, first = (await executor.run(tool, {"hang": False})).result
        await asyncio.sleep(0.02)
        assert name == "tool-t"
        assert (await executor.run(tool, {"hang": False})).result[1] == first
        assert (await executor.run(tool, {"hang": True})).outcome == "timeout"
        assert (await executor.run(tool, {"hang": False})).outcome == "ok"
    finally:
        release.set()


async def test_a_thread_that_cannot_be_started_holds_no_place(monkeypatch):
    def refuses(work):
        raise RuntimeError("can't start new thread")

    tool, executor = declared(lambda: 1, timeout=30, concurrency=1), Executor()
    with monkeypatch.context() as patched:
        patched.setattr(threads, "_run_in_some_thread", refuses)
        assert (await executor.run(tool, {})).result == {"error": "RuntimeError: can't start new thread"}
    assert not executor._places._slots["t", "call", 1].locked()
    assert (await executor.run(tool, {})).result == 1


async def test_the_deadline_shortens_the_timeout():
    async def slow():
        await asyncio.sleep(5)

    context = ToolContext(deadline=time.monotonic() + 0.5)
    started = time.monotonic()
    assert (await run(slow, context=context, retries=3, read_only=True)).attempts == 1
    assert time.monotonic() - started < 3


async def test_retries_stop_at_success_and_at_a_definite_answer():
    calls = []

    def flaky():
        calls.append(1)
        if len(calls) < 3:
            raise OSError("again")
        return "done"

    execution = await run(flaky, retries=5, idempotent=True)
    assert (execution.result, execution.attempts) == ("done", 3)

    def refuses():
        calls.append(1)
        raise ToolError("no")

    calls.clear()
    assert (await run(refuses, retries=5, idempotent=True)).attempts == 1


async def test_the_context_reaches_the_function():
    def who(context: ToolContext, greeting: str):
        return f"{greeting} {context.user_id}"

    execution = await run(who, {"greeting": "hi"}, ToolContext(user_id="U1"))
    assert execution.result == "hi U1"


async def test_cancelling_the_request_cancels_the_tool():
    cancelled = asyncio.Event()

    async def slow():
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    task = asyncio.create_task(run(slow))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(cancelled.wait(), 1)


async def test_what_is_to_be_awaited_is_awaited_whoever_returns_it():
    done = []

    async def act(what):
        done.append(what)
        return what

    def call():
        return act("called")

    executor = Executor()
    assert (await executor.run(declared(call), {})).result == "called"
    tool = declared(
        call,
        compensate=lambda arguments, result: act("undone"),
        reconcile=lambda arguments, context: act("asked"),
    )
    assert await executor.compensate(tool, {}, None, ToolContext()) == ("ok", "undone")
    assert await executor.reconcile(tool, {}, ToolContext()) == ("ok", "asked")
    assert done == ["called", "undone", "asked"]


async def test_a_decorated_function_is_what_its_wrapper_is():
    def passing(function):
        @wraps(function)
        def call(*given, **named):
            return function(*given, **named)

        return call

    def running(function):
        @wraps(function)
        def call(*given, **named):
            return asyncio.run(function(*given, **named))

        return call

    def awaiting(function):
        @wraps(function)
        async def call(*given, **named):
            await asyncio.sleep(0)
            return function(*given, **named)

        return call

    async def asynchronous(x: int):
        await asyncio.sleep(0)
        return x

    def sync(x: int):
        return x

    for function in (passing(asynchronous), running(asynchronous), passing(sync), awaiting(sync)):
        assert (await run(function, {"x": 1})).result == 1


async def test_a_call_holds_its_place_while_what_it_returned_is_awaited():
    begun, release = asyncio.Event(), asyncio.Event()

    async def wait():
        begun.set()
        await release.wait()

    def call():
        return wait()

    tool, executor = declared(call, concurrency=1, timeout=30), Executor()
    calls = [asyncio.create_task(executor.run(tool, {})) for _ in range(2)]
    await begun.wait()
    assert executor._places._slots["t", "call", 1].locked()
    release.set()
    assert [(await one).outcome for one in calls] == ["ok", "ok"]
    assert not executor._places._slots["t", "call", 1].locked()
