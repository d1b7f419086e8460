"""Daemons that freeze, leave and join while requests are on their way."""

import asyncio
import os
import random
import signal

from tests.faults.scenarios.scenario import Scenario
from tests.faults.traffic import any_request, call, chat
from tests.faults.world import SESSION_SECONDS, Setting, World


async def frozen(world: World, rng: random.Random) -> None:
    """Past the session timeout: a second daemon takes over, the first comes back with its old work."""
    first = rng.choice(world.daemons)
    await world.ask(24, 11, lambda: _any_streamed(rng))
    await asyncio.sleep(rng.uniform(0.0, 0.15))
    world.freeze(first)
    await world.ask(8, 11, lambda: any_request(rng))
    await asyncio.sleep(SESSION_SECONDS + rng.uniform(0.3, 2.0))
    world.thaw(first)
    await world.ask(8, 11, lambda: any_request(rng))


async def frozen_alone(world: World, rng: random.Random) -> None:
    """Past the session timeout with nobody to take over."""
    await world.ask(24, 11, lambda: _any_streamed(rng))
    await asyncio.sleep(rng.uniform(0.0, 0.15))
    world.freeze(world.daemons[0])
    await asyncio.sleep(SESSION_SECONDS + rng.uniform(0.3, 1.5))
    world.thaw(world.daemons[0])


async def terminated(world: World, rng: random.Random) -> None:
    """SIGTERM under load: it ends with 0, and its successor has nothing to do again."""
    await world.ask(32, 11, lambda: any_request(rng))
    await asyncio.sleep(rng.uniform(0.0, 0.3))
    leaving = asyncio.create_task(world.terminate(world.daemons[0]))
    await world.ask(8, 11, lambda: any_request(rng))
    await asyncio.gather(leaving, world.start_daemon())


async def forced(world: World, rng: random.Random) -> None:
    """A second SIGTERM: what is in work is handed back at once, and done by the successor."""
    struck = asyncio.create_task(world.until_effects("began", 12))
    await asyncio.sleep(0)
    await world.ask(12, 12, lambda: call("book", stream=True))
    await struck
    first = world.daemons[0]
    leaving = asyncio.create_task(world.terminate(first))
    await world.says(first, "draining")
    await asyncio.sleep(rng.uniform(0.0, 0.3))
    os.kill(first.process.pid, signal.SIGTERM)
    await leaving
    await world.says(first, "requests_handed_back")
    await world.start_daemon()


async def joined(world: World, rng: random.Random) -> None:
    """A second and a third daemon join and leave again mid-generation."""

    async def load() -> None:
        for _ in range(20):
            await world.ask(3, 11, lambda: _any_streamed(rng))
            await asyncio.sleep(0.25)

    loading = asyncio.create_task(load())
    second, third = await asyncio.gather(world.start_daemon(), world.start_daemon())
    await asyncio.sleep(rng.uniform(0.0, 1.0))
    await world.terminate(second)
    await asyncio.sleep(rng.uniform(0.0, 0.5))
    await world.kill(third) if rng.random() < 0.5 else await world.terminate(third)
    await loading


def _any_streamed(rng: random.Random) -> dict[str, object]:
    return (
        chat(rng, 200) | {"stream": True} if rng.random() < 0.5 else call(rng.choice(("book", "pack")), True)
    )


SCENARIOS = (
    Scenario("frozen past the session", frozen, Setting(daemons=2)),
    Scenario("frozen alone", frozen_alone),
    Scenario("SIGTERM under load", terminated),
    Scenario("joining and leaving", joined),
    Scenario("SIGTERM twice", forced, Setting(tool_seconds=2.0)),
)
