"""What a scenario is: settings of its world, and one round of it."""

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from tests.faults.world import World

Round = Callable[[World, random.Random], Awaitable[None]]


@dataclass(frozen=True)
class Scenario:
    """`play` is one round: it sends requests and does its harm. Before the first, `daemons` are running;
    after each, everything must be answered.

    `ready` returns why the scenario cannot run here, or None.
    """

    name: str
    play: Round
    daemons: int = 1
    partitions: int = 3
    tool_seconds: float = 0.1
    kafka: Mapping[str, str] = field(default_factory=dict)
    environment: Callable[[World], Mapping[str, str]] = lambda world: {}
    ready: Callable[[], str | None] = lambda: None


def keys(count: int, spare: bool = True) -> list[str | None]:
    """Conversations; with `spare` one in so many requests belongs to none."""
    names: list[str | None] = [f"conversation {number}" for number in range(count)]
    return [*names, None] if spare else names
