"""A daemon that dies at each step of calls that a journal remembers. Their tools: tests/faults/desk.py."""

import asyncio
import random
from collections.abc import Callable

from tests.faults.proxy import END_TXN, Trap
from tests.faults.scenarios.scenario import Scenario, replace_caught
from tests.faults.traffic import Value, call
from tests.faults.world import Setting, World

# Calls take long enough for all of them to run at the same time.
SLOW = Setting(tool_seconds=0.6)
JOURNALED = ("charge", "charge_and_fail", "ship", "ship_and_fail", "book", "pack")
COUNT, KEYS = 16, 13


async def not_begun(world: World, rng: random.Random) -> None:
    """The brokers have the intents; the daemon does not know it, and no call begins."""
    trap = world.set_trap(Trap(END_TXN, "response"))
    await world.ask(COUNT, KEYS, lambda: _any_call(rng))
    await replace_caught(world, trap)


async def running(world: World, rng: random.Random) -> None:
    await _when(world, "began", rng.randint(1, COUNT), lambda: _any_call(rng))
    await asyncio.sleep(rng.uniform(0.0, 0.7))
    await world.replace(world.daemons[0])


async def not_written(world: World, rng: random.Random) -> None:
    """Calls have ended; what became of them does not arrive at the brokers, or nobody learns that it did."""
    await _when(world, "began", COUNT // 2, lambda: _any_call(rng))
    # The intents are written. What comes next are other calls' intents and, half a second later, outcomes.
    await asyncio.sleep(0.3)
    trap = world.set_trap(Trap(END_TXN, rng.choice(("request", "response"))))
    await replace_caught(world, trap)


async def undoing(world: World, rng: random.Random) -> None:
    """Requests that are too late to be of use: while they run, or while what they did is undone."""
    event = rng.choice(("acted", "undoing", "undoing", "undone"))
    await _when(world, event, rng.randint(1, COUNT // 2), lambda: call("reserve"), within=1.0)
    await asyncio.sleep(rng.uniform(0.0, 0.3))
    await world.replace(world.daemons[0])


async def _when(
    world: World, event: str, count: int, make: Callable[[], Value], within: float | None = None
) -> None:
    """Ask, and return when the tools have noted `count` more of these events."""
    struck = asyncio.create_task(world.until_effects(event, count))
    await asyncio.sleep(0)
    await world.ask(COUNT, KEYS, make, within)
    assert await struck, f"no {count} calls {event}"


def _any_call(rng: random.Random) -> Value:
    return call(rng.choice(JOURNALED), stream=rng.random() < 0.3)


SCENARIOS = (
    Scenario("journal: intent written", not_begun, SLOW),
    Scenario("journal: tool running", running, SLOW),
    Scenario("journal: outcome not written", not_written, SLOW),
    Scenario("journal: being undone", undoing, SLOW),
)
