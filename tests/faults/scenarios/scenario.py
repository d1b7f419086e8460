"""What a scenario is: settings of its world, and one round of it."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.faults.world import USUAL, Setting, World

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
