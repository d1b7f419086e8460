import asyncio
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.cancel_token import CancelToken
from daemon.errors import ToolOutcomeUnknown, TooManyRounds
from daemon.tools.context import ToolContext
from daemon.tools.errors import CallInDoubt, CallTooLarge, ToolDeclarationError
from daemon.tools.executor import Executor
from daemon.tools.journal import Course, Decision, Failure, Journal, Step
from daemon.tools.registry import Registry, register_tool
from daemon.tools.saga import Saga
from tests.unit.tools.crashing import KEY, Crash, Process, World

NAMES = ["look", "plain", "plain_undo", "asked", "asked_undo", "once", "once_undo"]
PLANS = st.lists(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3), min_size=1, max_size=3)
CRASHES = st.lists(st.tuples(st.integers(0, 30), st.booleans(), PLANS), max_size=4)


async def live(crashes, plan, fails):
    """Deliver a request until it ends. A model that is asked again may decide otherwise: each life has a plan
    of its own."""
    world = World()
    for crash_at, flushed, other in crashes:
        try:
            return world, await Process(world, crash_at, flushed).deliver(other, fails)
        except Crash:
            await asyncio.sleep(0)  # tasks of the dead process end
    return world, await Process(world).deliver(plan, fails)


@settings(max_examples=150, deadline=None)
@given(CRASHES, PLANS, st.booleans())
def test_a_crash_anywhere_never_repeats_a_side_effect_nor_hides_one(crashes, plan, fails):
    world, (status, reports) = asyncio.run(live(crashes, plan, fails))
    assert all(count == 1 for count in world.effects.values())
    told = {report.result["made"]: report for report in reports if "made" in (report.result or ())}
    for key in world.effects:
        # What happened is in the reply, or is owned up to as unknown.
        assert key in told or "unknown" in [report.outcome for report in reports]
    for key, report in told.items():
        assert world.effects[key] == 1
        assert (report.outcome == "compensated") == (world.undone[key] == 1)
    for report in reports:
        if report.outcome == "unknown":
            # Only who declares nothing (or, in a request that failed, cannot be asked) leaves doubt.
            assert report.name.startswith("plain") or (status != "ok" and report.name.startswith("once"))
    if status == "ok":
        assert not fails and {report.outcome for report in reports} == {"ok"} and not world.undone
    elif "unknown" not in [report.outcome for report in reports]:
        assert status == "too_many_rounds"
        left = {report.name for report in reports if report.outcome == "ok"}
        assert not [name for name in left if name.endswith("_undo")]


@given(CRASHES, PLANS)
@settings(max_examples=80, deadline=None)
def test_tools_that_declare_how_end_every_request_well(crashes, plan):
    """Without tools that declare nothing, no crash makes a request fail."""

    def declared(turns):
        return [[name.replace("plain", "asked") for name in turn] for turn in turns]

    crashes = [(at, flushed, declared(other)) for at, flushed, other in crashes]
    world, (status, reports) = asyncio.run(live(crashes, declared(plan), False))
    assert status == "ok"
    assert sum(world.effects.values()) == sum(report.name != "look" for report in reports)


def tools(**functions):
    with Registry().collecting() as registry:
        for name, (function, options) in functions.items():
            register_tool(function, name=name, description="d", **options)
    return registry


def saga_of(registry, notes=None, attempt=1):
    find = {tool.name: tool for tool in registry}.get
    return Saga(Executor(), Journal(KEY, notes or Process(World()), attempt), find)


async def act(saga, registry, *names, history=()):
    calls = [(registry.get(name), Decision(name=name, arguments={})) for name in names]
    return await saga.act(0, history, calls, ToolContext())


FAILURE = Failure(status="error", error=TooManyRounds().body())


async def test_undoing_goes_backwards_and_says_what_it_could_not_do():
    order = []

    def undo(name, fails=False):
        def compensate(arguments, result):
            order.append((name, result))
            if fails:
                raise OSError("gone")

        return {"compensate": compensate}

    registry = tools(
        a=(lambda: 1, undo("a")),
        b=(lambda: 2, undo("b", fails=True)),
        c=(lambda: 3, {}),
        d=(lambda: 4, undo("d")),
    )
    saga = saga_of(registry)
    await act(saga, registry, "a")
    await act(saga, registry, "b", "c")
    await act(saga, registry, "d")
    await saga.undo(FAILURE, ToolContext())
    assert order == [("d", 4), ("b", 2), ("b", 2), ("b", 2), ("a", 1)]
    assert [(report.name, report.outcome, report.detail) for report in saga.reports()] == [
        ("a", "compensated", None),
        ("b", "compensation_failed", "OSError: gone"),
        ("c", "ok", None),
        ("d", "compensated", None),
    ]


async def test_what_fails_is_not_undone():
    def fails():
        raise RuntimeError("no")

    registry = tools(a=(fails, {"compensate": lambda arguments, result: 1 / 0}))
    saga = saga_of(registry)
    (execution,) = await act(saga, registry, "a")
    assert execution.outcome == "error"
    await saga.undo(FAILURE, ToolContext())
    assert [report.outcome for report in saga.reports()] == ["error"]


async def test_a_timeout_leaves_a_side_effect_unknown_unless_the_tool_can_be_asked():
    async def hangs():
        await asyncio.sleep(5)

    registry = tools(
        silent=(hangs, {"timeout": 0.05}),
        told=(hangs, {"timeout": 0.05, "reconcile": lambda arguments, context: context.idempotency_key}),
        look=(hangs, {"timeout": 0.05, "read_only": True}),
    )
    (told,) = await act(saga_of(registry), registry, "told")
    assert (told.outcome, told.result) == ("ok", f"{KEY}/0")
    (look,) = await act(saga_of(registry), registry, "look")
    assert look.outcome == "timeout"
    saga = saga_of(registry)
    with pytest.raises(ToolOutcomeUnknown, match="silent"):
        await act(saga, registry, "silent")
    assert [report.outcome for report in saga.reports()] == ["timeout"]


async def test_a_failure_on_the_way_back_is_asked_about():
    def breaks():
        raise ConnectionError("reset")

    def loses():
        raise CallInDoubt("no answer")

    def gone(arguments, context):
        return None

    registry = tools(
        did=(breaks, {"reconcile": lambda arguments, context: "done"}),
        did_not=(breaks, {"reconcile": gone}),
        lost=(loses, {"reconcile": gone}),
        silent=(loses, {"reconcile": lambda arguments, context: 1 / 0}),
    )
    did, did_not, lost = await act(saga_of(registry), registry, "did", "did_not", "lost")
    assert (did.outcome, did.result) == ("ok", "done")
    assert (did_not.outcome, did_not.result) == ("error", {"error": "ConnectionError: reset"})
    assert (lost.outcome, lost.result) == ("error", {"error": "no answer"})
    with pytest.raises(ToolOutcomeUnknown, match="silent"):
        await act(saga_of(registry), registry, "silent")


async def test_reading_is_not_journaled_and_runs_side_by_side():
    async def look():
        await asyncio.sleep(0.1)

    registry = tools(look=(look, {"read_only": True}))
    world = World()
    saga = saga_of(registry, Process(world))
    started = time.monotonic()
    await act(saga, registry, "look", "look", "look")
    assert time.monotonic() - started < 0.25
    await saga.undo(FAILURE, ToolContext())
    assert world.saved == {}


async def test_nothing_is_left_running_when_a_call_cannot_be_run():
    ran = []

    async def slow():
        for _ in range(20):
            await asyncio.sleep(0)
        ran.append("slow")

    def broken(tool, execution, context):
        if tool.name == "fast":
            raise MemoryError("no room")

    async def fast(): ...

    registry = tools(fast=(fast, {}), slow=(slow, {}))
    saga = Saga(Executor(executed=broken), Journal(KEY, Process(World())), registry.get)
    with pytest.raises(MemoryError):
        await act(saga, registry, "fast", "slow")
    assert ran == ["slow"]


async def test_what_is_too_long_to_go_on_from_is_undone():
    world, undone = World(), []
    registry = tools(a=(lambda: 1, {"compensate": lambda arguments, result: undone.append(result)}))
    await act(saga_of(registry, Process(world)), registry, "a", history=[{"content": "x" * 20_000}])
    again = saga_of(registry, Process(world), attempt=2)
    with pytest.raises(ToolOutcomeUnknown, match="does not tell how to go on"):
        again.resume()
    await again.undo(FAILURE, ToolContext())
    assert undone in ([1], [])  # the outcome may not have been written; then it is unknown
    assert {report.outcome for report in again.reports()} <= {"compensated", "unknown"}


async def test_a_call_too_large_for_the_journal_does_not_run():
    ran = []

    def store(text: str) -> None:
        ran.append(text)

    registry = tools(store=(store, {}))
    made = Decision(name="store", arguments={"text": "x" * 20_000})
    with pytest.raises(CallTooLarge):
        await saga_of(registry).act(0, (), [(registry.get("store"), made)], ToolContext())
    assert ran == []


async def test_a_result_too_large_for_the_journal_is_shortened_there():
    registry = tools(a=(lambda: "x" * 15_000, {}))
    world = World()
    process = Process(world)
    (execution,) = await act(saga_of(registry, process), registry, "a")
    assert len(execution.result) == 15_000
    await process.write({})
    (again,) = await act(saga_of(registry, Process(world)), registry, "a")
    assert again.reused and len(again.result["truncated"]) > 1000


async def test_a_call_that_is_not_made_again_is_as_unknown_as_before():
    world, cancelled = World(), CancelToken()
    registry = tools(a=(lambda: 1, {"idempotent": True}))
    made = Decision(name="a", arguments={})
    intent = Step(number=0, tool="a", arguments={}, state="intended")
    await Journal(KEY, Process(world)).begin(Course(calls=(made,)), [intent])
    saga = saga_of(registry, Process(world), attempt=2)
    assert saga.resume() is not None
    cancelled.set()
    with pytest.raises(ToolOutcomeUnknown):
        await saga.act(0, (), [(registry.get("a"), made)], ToolContext(), cancelled)


async def test_a_tool_that_is_gone():
    world = World()
    registry = tools(a=(lambda: 1, {}))
    process = Process(world)
    await act(saga_of(registry, process), registry, "a")
    await process.write({})
    saga = saga_of(tools(), Process(world), attempt=2)
    assert saga.resume() == Course(calls=(Decision(name="a", arguments={}),))
    calls = [(None, Decision(name="a", arguments={})), (None, Decision(name="b", arguments={}))]
    reused, gone = await saga.act(0, (), calls, ToolContext())
    assert (reused.result, reused.reused) == (1, True)
    assert gone.outcome == "error"


async def test_notes_that_cannot_be_read_end_the_request():
    world = World()
    world.saved = {"course": b"{}", "0": b"what?"}
    with pytest.raises(ToolOutcomeUnknown):
        saga_of(tools(), Process(world)).resume()


@pytest.mark.parametrize(
    "options",
    [{"compensate": lambda result: None}, {"reconcile": lambda: None}, {"reconcile": lambda a: None}],
)
def test_hooks_must_take_what_they_are_given(options):
    with pytest.raises(ToolDeclarationError, match="must take"):
        tools(a=(lambda: 1, options))
