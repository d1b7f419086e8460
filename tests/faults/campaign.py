"""Plays scenarios and judges what they leave behind."""

import random
import re
import statistics
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.faults.checker import Violation, check
from tests.faults.cluster import Cluster
from tests.faults.history import History
from tests.faults.scenarios import Scenario
from tests.faults.world import World


@dataclass(frozen=True)
class Outcome:
    """`redelivered`: replies of a second or later attempt; `aborted`: replies that were written and never
    committed. Both say that the faults struck. `recoveries`: seconds from the start of a replacement to its
    first reply. `folder`: the daemons' logs.
    """

    scenario: str
    seed: int
    rounds: int
    requests: int
    replies: int
    redelivered: int
    aborted: int
    executions: int
    in_flight: list[int]
    recoveries: list[float]
    violations: list[Violation]
    seconds: float
    folder: Path

    def count(self, kind: str) -> int:
        return sum(violation.kind == kind for violation in self.violations)

    @property
    def slowest_recovery(self) -> float | None:
        return max(self.recoveries, default=None)

    @property
    def typical_in_flight(self) -> float | None:
        return statistics.median(self.in_flight) if self.in_flight else None

    def __str__(self) -> str:
        told = [f"{violation.kind}: {violation.what}" for violation in self.violations[:20]]
        head = f"{self.scenario}, seed {self.seed}, {self.rounds} rounds, {self.requests} requests"
        return "\n".join([head, f"logs: {self.folder}", *told])


async def play(cluster: Cluster, engine: Path, scenario: Scenario, seed: int, rounds: int) -> Outcome:
    """All rounds in one world. The same seed makes the same requests and the same harm, not the same timing."""
    name = f"{re.sub('[^a-z0-9]+', '-', scenario.name.lower())}-{seed}-{time.time_ns() % 10**9}"
    folder = Path(tempfile.mkdtemp(prefix=f"faults-{name}-"))
    world = World(
        cluster,
        engine,
        folder,
        name,
        partitions=scenario.partitions,
        tool_seconds=scenario.tool_seconds,
        **scenario.kafka,
    )
    started = time.monotonic()
    await world.traffic.start()
    try:
        environment = scenario.environment(world)
        for _ in range(scenario.daemons):
            await world.start_daemon(**environment)
        for number in range(rounds):
            await scenario.play(world, random.Random(f"{scenario.name}/{seed}/{number}"))
            if not await world.answered():
                break
        cluster.proxy.clear()
        await world.finish()
        history = await world.history()
        return _outcome(
            scenario, seed, number + 1, world, history, await world.aborted(), time.monotonic() - started
        )
    finally:
        cluster.proxy.clear()
        world.kill_all()
        await world.traffic.stop()


def _outcome(
    scenario: Scenario, seed: int, rounds: int, world: World, history: History, aborted: int, seconds: float
) -> Outcome:
    attempts = Counter(reply.attempt > 1 for reply in history.told)
    return Outcome(
        scenario.name,
        seed,
        rounds,
        len(history.asked),
        len(history.told),
        attempts[True],
        aborted,
        sum(ran.event == "began" for ran in history.ran),
        world.in_flight,
        world.recoveries,
        check(history),
        seconds,
        world.folder,
    )
