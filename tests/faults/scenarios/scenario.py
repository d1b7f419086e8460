"""What a scenario is: settings of its world, and one round of it."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.faults.world import USUAL, Setting, World

Round = Callable[[World, random.Random], Awaitable[None]]


@dataclass(frozen=True)
class Scenario:
    """`play` is one round: it sends requests and does its harm; then everything must be answered, and as
    many daemons run as before.
    """

    name: str
    play: Round
    setting: Setting = USUAL


def keys(count: int, spare: bool = True) -> list[str | None]:
    """Conversations; with `spare` one in so many requests belongs to none."""
    names: list[str | None] = [f"conversation {number}" for number in range(count)]
    return [*names, None] if spare else names
