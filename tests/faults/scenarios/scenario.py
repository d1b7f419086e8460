"""What a scenario is: settings of its world, and one round of it."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.faults.proxy import Trap
from tests.faults.world import ANSWER_SECONDS, USUAL, Setting, World

Round = Callable[[World, random.Random], Awaitable[None]]


@dataclass(frozen=True)
class Scenario:
    """`play` is one round: it sends requests and does its harm; then everything must be answered, and as
    many daemons run as before. `alone`: it harms what all worlds share.
    """

    name: str
    play: Round
    setting: Setting = USUAL
    alone: bool = False


async def replace_caught(world: World, trap: Trap) -> None:
    """SIGKILL for the daemon while `trap` holds what it says or hears, and a new one in its place."""
    async with asyncio.timeout(ANSWER_SECONDS):
        await trap.caught.wait()
    replacing = asyncio.create_task(world.replace(world.daemons[0]))
    await asyncio.sleep(0.05)
    trap.release.set()
    await replacing
