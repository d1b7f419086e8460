"""Plays scenarios and judges what they leave behind."""

import itertools
import random
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from daemon.kafka.intake.slots import Slots
from tests.faults.checker import Violation, check
from tests.faults.cluster import Cluster
from tests.faults.history import History
from tests.faults.scenarios.scenario import Scenario
from tests.faults.world import World


@dataclass(frozen=True)
class Outcome:
    """What a run came to. `played`: scenario/seed/number of every round, the seed of its random choices.

    `requests`: records asked in the rounds; the history has those of the warm-up, too. `aborted`: replies
    that were written and never committed, so a fault struck a transaction. `in_flight`: requests without
    reply at each kill and freeze. `recoveries`: seconds from the start of a replacement to its first reply.
    `folder`: the daemons' logs and the tools' notes, kept when there are violations.
    """

    scenario: str
    played: list[str]
    requests: int
    history: History
    violations: list[Violation]
    aborted: int
    in_flight: list[int]
    recoveries: list[float]
    seconds: float
    folder: Path

    def count(self, kind: str) -> int:
        return sum(violation.kind == kind for violation in self.violations)

    @property
    def redelivered(self) -> int:
        """Replies of a second or later attempt."""
        return sum(reply.attempt > 1 for reply in self.history.told)

    def __str__(self) -> str:
        told = [f"{violation.kind}: {violation.what}" for violation in self.violations[:20]]
        return "\n".join([f"{self.played[-1]} ended this; logs in {self.folder}", *told])


class Stage:
    """Plays on one cluster, so many worlds side by side: most of their time is waiting."""

    def __init__(self, cluster: Cluster, engine: Path, worlds: int) -> None:
        self._cluster, self._engine = cluster, engine
        self._slots = Slots(worlds)

    async def play(self, scenarios: Sequence[Scenario], seed: int, rounds: int, load: int = 1) -> Outcome:
        """Waits for its turn; see `play`."""
        alone = any(scenario.alone for scenario in scenarios)
        await self._slots.acquire(alone=alone)
        try:
            return await play(self._cluster, self._engine, scenarios, seed, rounds, load)
        finally:
            self._slots.release(alone=alone)


async def play(
    cluster: Cluster, engine: Path, scenarios: Sequence[Scenario], seed: int, rounds: int, load: int = 1
) -> Outcome:
    """Rounds of the scenarios by turns, in one world: they must have the same setting. `load`: see World.

    The same seed makes the same requests and the same harm, not the same timing.
    """
    (setting,) = {scenario.setting for scenario in scenarios}
    name = f"{re.sub('[^a-z0-9]+', '-', scenarios[0].name.lower())}-{seed}-{time.time_ns() % 10**9}"
    world = World(cluster, engine, Path(tempfile.mkdtemp(prefix=f"faults-{name}-")), name, setting, load)
    started = time.monotonic()
    played: list[str] = []
    try:
        await world.start()
        for number, scenario in itertools.product(range(rounds), scenarios):
            played.append(f"{scenario.name}/{seed}/{number}")
            await scenario.play(world, random.Random(played[-1]))
            if not await world.answered():
                break
        world.clear_traps()
        await world.finish()
        history = await world.history()
        outcome = Outcome(
            " + ".join(scenario.name for scenario in scenarios),
            played,
            len(history.asked) - world.warm_up,
            history,
            check(history),
            await world.aborted(),
            world.in_flight,
            world.recoveries,
            time.monotonic() - started,
            world.folder,
        )
        if not outcome.violations:
            shutil.rmtree(world.folder)
        return outcome
    finally:
        world.clear_traps()
        world.kill_all()
        await world.traffic.stop()
