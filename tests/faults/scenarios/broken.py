"""Brokers that die, stop and freeze, and answers of theirs that get lost on the way."""

import asyncio
import random

from tests.faults.proxy import ADD_OFFSETS_TO_TXN, END_TXN, PRODUCE, TXN_OFFSET_COMMIT, Trap
from tests.faults.scenarios.scenario import Scenario
from tests.faults.traffic import any_request
from tests.faults.world import ANSWER_SECONDS, SESSION_SECONDS, World


async def crashed(world: World, rng: random.Random) -> None:
    await world.ask(24, 7, lambda: any_request(rng))
    await asyncio.sleep(rng.uniform(0.0, 0.3))
    await world.cluster.crash()
    await world.ask(8, 7, lambda: any_request(rng))


async def restarted(world: World, rng: random.Random) -> None:
    await world.ask(24, 7, lambda: any_request(rng))
    await asyncio.sleep(rng.uniform(0.0, 0.3))
    await world.cluster.restart()
    await world.ask(8, 7, lambda: any_request(rng))


async def frozen(world: World, rng: random.Random) -> None:
    """For longer than the session timeout."""
    await world.ask(24, 7, lambda: any_request(rng))
    await asyncio.sleep(rng.uniform(0.0, 0.2))
    world.cluster.freeze()
    await asyncio.sleep(SESSION_SECONDS + rng.uniform(0.5, 2.0))
    world.cluster.thaw()
    await world.ask(8, 7, lambda: any_request(rng))


async def silent(world: World, rng: random.Random) -> None:
    """A produce, an offset commit or the end of a transaction happens or not, and its answer is lost;
    then that of deltas.
    """
    apis = rng.sample((PRODUCE, ADD_OFFSETS_TO_TXN, TXN_OFFSET_COMMIT, END_TXN, END_TXN), 3)
    traps = [Trap(api, rng.choice(("request", "response", "response"))) for api in apis]
    client = world.client_id(world.daemons[0])
    for trap in (*traps, Trap(PRODUCE, "response", client=client, transactional=False)):
        world.set_trap(trap)
        trap.release.set()
        await world.ask(12, 7, lambda: any_request(rng))
        async with asyncio.timeout(ANSWER_SECONDS):
            await trap.caught.wait()


async def stuck(world: World, rng: random.Random) -> None:
    """The end of a transaction arrives only after a second daemon has taken the partition over."""
    second = await world.start_daemon()
    await world.answered()
    first = world.daemons[0]
    trap = Trap(END_TXN, "request", client=world.client_id(first), drop=False)
    world.set_trap(trap)
    await world.ask(24, 11, lambda: any_request(rng))
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await trap.caught.wait()
        world.freeze(first)
        await asyncio.sleep(SESSION_SECONDS + 1.0)
    finally:
        trap.release.set()
        world.thaw(first)
    await world.answered()
    await world.terminate(second)


SCENARIOS = (
    Scenario("answers lost", silent),
    Scenario("late commit", stuck),
    Scenario("broker killed", crashed, alone=True),
    Scenario("broker restarted", restarted, alone=True),
    Scenario("broker frozen", frozen, alone=True),
)
