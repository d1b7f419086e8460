"""SIGKILL at every step of a request. A replacement starts at once, as under systemd."""

import asyncio
import random

from tests.faults.proxy import END_TXN, PRODUCE, Trap
from tests.faults.scenarios.scenario import Scenario, replace_caught
from tests.faults.traffic import TOOLS, any_request, call, chat
from tests.faults.world import ANSWER_SECONDS, Setting, World


async def polled(world: World, rng: random.Random) -> None:
    """Somewhere between the records' arrival and their first token."""
    await world.ask(24, 7, lambda: any_request(rng))
    await asyncio.sleep(rng.uniform(0.0, 0.06))
    await world.replace(world.daemons[0])


async def generating(world: World, rng: random.Random) -> None:
    """At the first streamed piece or soon after."""
    before = world.traffic.deltas
    await world.ask(24, 7, lambda: chat(rng, 400) | {"stream": True})
    assert await world.traffic.until(lambda: world.traffic.deltas > before, ANSWER_SECONDS), "no deltas"
    await asyncio.sleep(rng.uniform(0.0, 0.05))
    await world.replace(world.daemons[0])


async def tool_running(world: World, rng: random.Random) -> None:
    await _at_event(world, rng, "began", delay=0.02)


async def tool_returned(world: World, rng: random.Random) -> None:
    await _at_event(world, rng, "acted", delay=0.01)


async def _at_event(world: World, rng: random.Random, event: str, delay: float) -> None:
    struck = asyncio.create_task(world.until_effects(event, rng.randint(1, 8)))
    await asyncio.sleep(0)
    await world.ask(16, 11, lambda: call(rng.choice(TOOLS), stream=True))
    await struck
    await asyncio.sleep(rng.uniform(0.0, delay))
    await world.replace(world.daemons[0])


async def reply_sent(world: World, rng: random.Random) -> None:
    """The broker has the reply records; their transaction is open."""
    await _at_frame(world, rng, Trap(PRODUCE, "response"))


async def before_commit(world: World, rng: random.Random) -> None:
    """The broker has records and offsets; the commit is on its way and never arrives."""
    await _at_frame(world, rng, Trap(END_TXN, "request"))


async def after_commit(world: World, rng: random.Random) -> None:
    """The broker has committed; the daemon dies before it hears of it."""
    await _at_frame(world, rng, Trap(END_TXN, "response"))


async def _at_frame(world: World, rng: random.Random, trap: Trap) -> None:
    await asyncio.sleep(rng.uniform(0.0, 0.1))
    world.set_trap(trap)
    await world.ask(16, 7, lambda: any_request(rng))
    await replace_caught(world, trap)


async def sixty_four(world: World, rng: random.Random) -> None:
    """64 tool calls at once, all of them running; the daemon dies before or after some replied."""
    struck = asyncio.create_task(world.until_effects("began", 64))
    await asyncio.sleep(0)
    await world.traffic.send(
        [call("book", stream=rng.random() < 0.2) for _ in range(64)], [f"c{number}" for number in range(64)]
    )
    await struck
    await asyncio.sleep(rng.choice((0.0, rng.uniform(0.0, 0.5))))
    await world.replace(world.daemons[0])


async def twice(world: World, rng: random.Random) -> None:
    """The replacement dies as well, while it takes over."""
    await world.ask(24, 7, lambda: any_request(rng))
    await asyncio.sleep(rng.uniform(0.0, 0.3))
    replacement = await world.replace(world.daemons[0])
    await world.ask(8, 7, lambda: any_request(rng))
    await asyncio.sleep(rng.uniform(0.0, 0.1))
    await world.replace(replacement)


async def called_off(world: World, rng: random.Random) -> None:
    """A third of the requests is called off around the kill, and four more while no daemon is there."""
    names = await world.ask(24, 7, lambda: call(rng.choice((*TOOLS, "reserve")), stream=rng.random() < 0.3))
    await asyncio.sleep(rng.uniform(0.0, 0.3))
    await world.traffic.call_off(rng.sample(names, len(names) // 3))
    await asyncio.sleep(rng.uniform(0.0, 0.1))
    await world.kill(world.daemons[0])
    late = await world.ask(4, 7, lambda: call("book"))
    await world.traffic.call_off(late, surely=True)
    await world.start_daemon()


SCENARIOS = (
    Scenario("kill: polled", polled),
    Scenario("kill: generating", generating),
    Scenario("kill: tool running", tool_running),
    Scenario("kill: tool returned", tool_returned),
    Scenario("kill: reply sent", reply_sent),
    Scenario("kill: before commit", before_commit),
    Scenario("kill: after commit", after_commit),
    Scenario("kill: twice", twice),
    Scenario("kill: called off", called_off),
    Scenario("kill: 64 in flight", sixty_four, Setting(tool_seconds=0.8)),
    Scenario("kill: at-least-once", tool_returned, Setting(delivery="at-least-once")),
)
