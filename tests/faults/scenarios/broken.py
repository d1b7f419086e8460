"""Brokers that die, stop and freeze, and answers of theirs that get lost on the way."""

import asyncio
import random

from tests.faults.proxy import ADD_OFFSETS_TO_TXN, END_TXN, PRODUCE, TXN_OFFSET_COMMIT, Trap
from tests.faults.scenarios.scenario import Scenario, keys
from tests.faults.traffic import any_request
from tests.faults.world import SESSION_SECONDS, World


async def crashed(world: World, rng: random.Random) -> None:
    await world.traffic.send([any_request(rng) for _ in range(24)], keys(7))
    await asyncio.sleep(rng.uniform(0.0, 0.3))
    await world.cluster.crash()
    await world.traffic.send([any_request(rng) for _ in range(8)], keys(7))


async def restarted(world: World, rng: random.Random) -> None:
    await world.traffic.send([any_request(rng) for _ in range(24)], keys(7))
    await asyncio.sleep(rng.uniform(0.0, 0.3))
    await world.cluster.restart()
    await world.traffic.send([any_request(rng) for _ in range(8)], keys(7))


async def frozen(world: World, rng: random.Random) -> None:
    """For longer than the session timeout."""
    await world.traffic.send([any_request(rng) for _ in range(24)], keys(7))
    await asyncio.sleep(rng.uniform(0.0, 0.2))
    world.cluster.freeze()
    await asyncio.sleep(SESSION_SECONDS + rng.uniform(0.5, 2.0))
    world.cluster.thaw()
    await world.traffic.send([any_request(rng) for _ in range(8)], keys(7))


async def silent(world: World, rng: random.Random) -> None:
    """A produce, an offset commit or the end of a transaction happens or not, and its answer is lost."""
    for api in rng.sample((PRODUCE, ADD_OFFSETS_TO_TXN, TXN_OFFSET_COMMIT, END_TXN, END_TXN), 3):
        trap = world.cluster.proxy.set_trap(Trap(api, rng.choice(("request", "response", "response"))))
        trap.release.set()
        await world.traffic.send([any_request(rng) for _ in range(12)], keys(7))
        async with asyncio.timeout(20.0):
            await trap.caught.wait()


async def stuck(world: World, rng: random.Random) -> None:
    """The end of a transaction arrives only after a second daemon has taken the partition over."""
    second = await world.start_daemon()
    await world.answered()
    first = world.daemons[0]
    trap = Trap(END_TXN, "request", client=world.client_id(first), drop=False)
    world.cluster.proxy.set_trap(trap)
    await world.traffic.send([any_request(rng) for _ in range(24)], keys(11))
    try:
        async with asyncio.timeout(20.0):
            await trap.caught.wait()
        world.freeze(first)
        await asyncio.sleep(SESSION_SECONDS + 1.0)
    finally:
        trap.release.set()
        world.thaw(first)
    await world.answered()
    await world.terminate(second)


SCENARIOS = (
    Scenario("broker killed", crashed),
    Scenario("broker restarted", restarted),
    Scenario("broker frozen", frozen),
    Scenario("answers lost", silent),
    Scenario("late commit", stuck),
)
