"""Real engines that are loaded, switched and retired while requests run."""

import asyncio
import gc
import shutil
import time

import pytest

from daemon import heap
from daemon.agent.agent import Agent
from daemon.agent.job import Job
from daemon.bundled import CHECKPOINT
from daemon.errors import ConfigurationError, EngineInterrupted
from daemon.routing.fleet import Fleet
from daemon.routing.orders import Orders
from daemon.routing.route import Route
from daemon.routing.wanted import Wanted, wanted_by
from daemon.settings import EngineSettings, Settings
from daemon.tools.registry import Registry
from engines.build import build
from engines.errors import EngineFailed, EngineFolderError, EngineTooLarge, GpuFailed
from engines.serve.engine import Engine
from schemas.control import LoadEngine, RetireEngine
from schemas.request import Request
from tests.unit.conftest import GOLDEN

SIZES = {"slots": 4, "capacity": 512}


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """The bundled model at two precisions."""
    root = tmp_path_factory.mktemp("models")
    for precision in ("fp32", "int8"):
        build(CHECKPOINT, root / precision, precision=precision)
    return root


@pytest.fixture
async def fleet():
    fleet = Fleet()
    yield fleet
    await fleet.close()


def settings(models, engines, **more):
    """Engines by name → folder and other settings."""
    return Settings(
        engines={
            name: {**SIZES, "path": str(models / folder), **changes}
            for name, (folder, changes) in engines.items()
        },
        **more,
    )


def job(number, **request):
    return Job(Request(query=f"Hello {number}", max_tokens=12, **request), str(number), last_try=False)


def slowly(load, until):
    """Loads when `until()` is true; fails when that takes half a minute."""

    def load_(*args, **options):
        for _ in range(300):
            if until():
                return load(*args, **options)
            time.sleep(0.1)
        raise TimeoutError

    return load_


def engine_of(fleet, name):
    return fleet.router.pool.replicas(name)[0].engine


async def test_a_switch_under_load_loses_nothing_and_gives_the_memory_back(models, fleet, monkeypatch):
    await fleet.become(*wanted_by(settings(models, {"main": ("fp32", {})})))
    agent = Agent(fleet.router, Registry())
    old = engine_of(fleet, "main")
    served: list[object] = []
    done, renewed = asyncio.Event(), asyncio.Event()

    async def caller(number):
        replies = []
        while not done.is_set() or not replies:
            chosen = engine_of(fleet, "main")
            replies.append(await agent.run(job(number)))
            served.append(chosen)
            if chosen is not old:
                renewed.set()
        return replies

    callers = [asyncio.create_task(caller(number)) for number in range(8)]
    await asyncio.sleep(0.2)
    wanted, before = wanted_by(settings(models, {"main": ("int8", {})})), len(served)
    # Loading holds nobody up: each caller is served again meanwhile.
    monkeypatch.setattr(Engine, "load", slowly(Engine.load, lambda: len(served) > before + 8))
    await fleet.become(*wanted)
    new = engine_of(fleet, "main")
    generated = new.stats().tokens_generated
    async with asyncio.timeout(30):
        await renewed.wait()
    done.set()
    replies = [reply for part in await asyncio.gather(*callers) for reply in part]
    assert {reply.status for reply in replies} == {"ok"} and {reply.model for reply in replies} == {"main"}
    assert {old, new} == set(served)
    assert new.stats().tokens_generated > generated
    assert new.manifest.precision == "int8"
    for _ in range(200):
        if old.failed.done():
            break
        await asyncio.sleep(0.01)
    assert old.failed.result() is None  # closed, not failed
    assert old._runtime._caches == {} and old._runtime._session is None
    assert [replica.open for replica in fleet.router.pool.replicas("main")] == [0]


async def test_what_stays_is_left_out_of_collections_again_after_a_switch(models, fleet):
    await fleet.become(*wanted_by(settings(models, {"main": ("fp32", {})})))
    heap.settle()
    await fleet.become(*wanted_by(settings(models, {"main": ("int8", {})})))
    assert gc.get_freeze_count() == 0  # the old engine is to go
    await asyncio.gather(*fleet._closing)
    assert gc.get_freeze_count() > 0
    await fleet.close()
    assert gc.get_freeze_count() == 0


async def test_a_request_stays_with_the_engine_it_began_on(models, fleet):
    await fleet.become(*wanted_by(settings(models, {"main": ("fp32", {})})))
    old = engine_of(fleet, "main")
    with fleet.router.choose(job(1)) as speaker:
        await fleet.become(*wanted_by(settings(models, {"main": ("int8", {})})))
        assert speaker._machine is old and old.alive
        assert [state for _, state, _ in fleet.stats()] == ["serving", "retiring"]
    with fleet.router.choose(job(2)) as speaker:
        assert speaker._machine is engine_of(fleet, "main") is not old
    assert not fleet._retiring


async def test_a_load_that_fails_leaves_everything_as_it_was(models, fleet, tmp_path):
    await fleet.become(*wanted_by(settings(models, {"main": ("fp32", {})})))
    old, routes = engine_of(fleet, "main"), fleet.router.routes
    route = [{"engine": "more"}]
    good_and_bad = {"more": ("int8", {}), "main": ("fp32", {"slots": 10**7})}
    with pytest.raises(EngineTooLarge, match=r"at most [0-9]+ rows fit"):
        await fleet.become(*wanted_by(settings(models, good_and_bad, routes=route)))
    with pytest.raises(EngineFolderError):
        wanted_by(settings(tmp_path, {"main": ("none", {})}))
    build(GOLDEN / "glm", tmp_path / "mute")
    with pytest.raises(ConfigurationError, match="no tokenizer"):
        wanted_by(settings(tmp_path, {"main": ("mute", {})}))
    shutil.copytree(models / "fp32", tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").unlink()
    with pytest.raises(
        ConfigurationError, match=r"no chat template; put chat_template\.jinja into the check"
    ):
        wanted_by(settings(tmp_path, {"main": ("base", {})}))
    assert fleet.router.pool.names == ["main"] and fleet.router.routes == routes
    assert engine_of(fleet, "main") is old and old.alive
    await fleet.become(*wanted_by(settings(models, {"main": ("fp32", {})})))
    assert engine_of(fleet, "main") is old  # nothing changed: nothing is loaded


async def test_an_engine_that_fails_before_its_time_is_not_put_in_service(models, fleet, monkeypatch):
    await fleet.become(*wanted_by(settings(models, {"main": ("fp32", {})})))
    old, real = engine_of(fleet, "main"), Engine.start

    def start(engine):
        engine._take = lambda: 1 / 0
        real(engine)
        engine._thread.join()

    monkeypatch.setattr(Engine, "start", start)
    watching = asyncio.create_task(fleet.watch())
    with pytest.raises(EngineFailed, match="main failed before it was in service"):
        await fleet.become(*wanted_by(settings(models, {"main": ("int8", {})})))
    await asyncio.sleep(0.05)
    assert engine_of(fleet, "main") is old and old.alive and not watching.done()


async def test_stopping_while_an_engine_is_loaded_waits_for_it(models, fleet, monkeypatch):
    loaded = []

    def load(*args, **options):
        time.sleep(0.3)
        loaded.append(real(*args, **options))
        return loaded[0]

    real = Engine.load
    monkeypatch.setattr(Engine, "load", load)
    wanted = wanted_by(settings(models, {"main": ("fp32", {})}))
    becoming = asyncio.create_task(fleet.become(*wanted))
    await asyncio.sleep(0.1)
    becoming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await becoming
    await fleet.close()
    assert [engine.failed.result(0) for engine in loaded] == [None]  # closed


async def test_orders_load_and_retire_until_the_next_reload(models, fleet):
    first = settings(models, {"main": ("fp32", {}), "spare": ("int8", {})}, routes=[{"engine": "main"}])
    await fleet.become(*wanted_by(first))
    orders = Orders(fleet, lambda: first, "host/1")
    running = asyncio.create_task(orders.run())
    path = str(models / "int8")

    async def settled():
        while not orders._given.empty():  # noqa: ASYNC110  the test's timeout bounds it
            await asyncio.sleep(0.01)
        async with fleet._lock:
            pass

    orders.give(LoadEngine(type="load_engine", name="other", path=path, instance="host/2"))
    orders.give(LoadEngine(type="load_engine", name="main", path=path + "/none", slots=2))
    orders.give(LoadEngine(type="load_engine", name="new", path=path, slots=2, capacity=64))
    orders.give(RetireEngine(type="retire_engine", name="main"))  # the only one of a route
    orders.give(RetireEngine(type="retire_engine", name="spare"))
    for _ in range(1000):
        await settled()
        if fleet.router.pool.names == ["main", "new"]:
            break
        await asyncio.sleep(0.01)
    assert fleet.router.pool.names == ["main", "new"]
    assert engine_of(fleet, "main").manifest.precision == "fp32"
    assert engine_of(fleet, "new").stats().slots == 3
    await fleet.become(*wanted_by(first))
    assert sorted(fleet.router.pool.names) == ["main", "spare"]
    assert not running.done()
    running.cancel()


async def test_replicas_share_the_load_and_the_memory(models, fleet):
    both = {"main": ("fp32", {"replicas": 2, "slots": None, "memory": 0.01})}
    await fleet.become(*wanted_by(settings(models, both)))
    agent = Agent(fleet.router, Registry())
    replies = await asyncio.gather(*(agent.run(job(number)) for number in range(12)))
    assert {reply.status for reply in replies} == {"ok"}
    replicas = fleet.router.pool.replicas("main")
    assert len({replica.engine.tokenizer for replica in replicas}) == 1  # read once
    finished = [
        sum(replica.engine.stats().finished.values()) for replica in fleet.router.pool.replicas("main")
    ]
    assert sum(finished) == 12 and min(finished) > 0
    with pytest.raises(EngineTooLarge, match="left of its share"):
        few = {"main": ("fp32", {"slots": 4000, "memory": 0.01})}
        await fleet.become(*wanted_by(settings(models, few)))


async def test_a_follow_up_finds_its_kv_among_the_replicas(models, fleet):
    await fleet.become(*wanted_by(settings(models, {"main": ("fp32", {"replicas": 2})})))
    agent = Agent(fleet.router, Registry())

    async def turn(number, messages):
        request = Request(messages=messages, max_tokens=8, tools=[])
        reply = await agent.run(Job(request, str(number), conversation=b"%d" % number))
        return reply, [*messages, reply.message.model_dump(exclude_none=True)]

    begun = [[{"role": "user", "content": f"Number {number}: " + "hello " * 20}] for number in range(4)]
    firsts = await asyncio.gather(*(turn(*one) for one in enumerate(begun)))
    used = {sum(replica.engine.stats().finished.values()) for replica in fleet.router.pool.replicas("main")}
    assert used == {2}
    for number, (first, messages) in enumerate(firsts):
        second, _ = await turn(number, [*messages, {"role": "user", "content": "And now?"}])
        assert second.usage.cached_tokens >= first.usage.prompt_tokens


async def test_a_failed_engine_hands_over_to_the_fallback_and_comes_back_by_reload(models, fleet):
    routes = [Route(engine="main", fallback="spare")]
    chosen = settings(models, {"main": ("fp32", {}), "spare": ("int8", {})}, routes=routes)
    await fleet.become(*wanted_by(chosen))
    watching = asyncio.create_task(fleet.watch())
    agent = Agent(fleet.router, Registry())
    broken = engine_of(fleet, "main")
    broken._runtime.decode = lambda *_: 1 / 0
    with pytest.raises(EngineInterrupted):  # tried again, since nothing was seen of it
        await agent.run(job(1))
    reply = await agent.run(job(1))
    assert (reply.status, reply.model) == ("ok", "spare")
    await asyncio.sleep(0.05)
    assert not watching.done() and fleet.fatal() is None
    assert "main" in fleet.problem()
    assert sorted(state for _, state, _ in fleet.stats()) == ["failed", "serving"]
    await fleet.become(*wanted_by(chosen))
    assert fleet.problem() is None
    assert (await agent.run(job(2))).model == "main"
    engine_of(fleet, "spare")._runtime.decode = lambda *_: 1 / 0
    engine_of(fleet, "main")._runtime.decode = lambda *_: 1 / 0
    with pytest.raises(EngineInterrupted):
        await agent.run(job(3))
    with pytest.raises(EngineFailed):
        await agent.run(job(3))
    with pytest.raises(EngineFailed, match="ZeroDivisionError"):
        await watching
    assert "failed" in fleet.fatal()


async def test_a_gpu_that_fails_ends_the_process_whatever_the_fallback(models, fleet):
    routes = [Route(engine="main", fallback="spare")]
    two = settings(models, {"main": ("fp32", {}), "spare": ("int8", {})}, routes=routes)
    await fleet.become(*wanted_by(two))

    def lost(*_):
        raise GpuFailed

    engine_of(fleet, "main")._runtime.decode = lost
    with pytest.raises(EngineFailed):
        await Agent(fleet.router, Registry()).run(job(1))
    with pytest.raises(EngineFailed) as caught:
        await fleet.watch()
    assert isinstance(caught.value.__cause__, GpuFailed)


def test_one_engine_keeps_the_name_of_its_model(models):
    wanted, routes = wanted_by(Settings(engine=EngineSettings(path=models / "int8")))
    (name,) = wanted
    assert routes == (Route(engine=name),)
    assert wanted[name] == Wanted.of(None, EngineSettings(path=models / "int8"))
    assert wanted[name] != Wanted.of(None, EngineSettings(path=models / "int8", slots=3))
