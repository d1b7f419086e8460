"""`make chaos`: many rounds of every fault, and a table. Exit status 1 when a promise was broken."""

import argparse
import asyncio
import logging
import statistics
import sys
import tempfile
import time
import traceback
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults.campaign import Outcome, Stage
from tests.faults.cluster import Cluster
from tests.faults.model import build_engine
from tests.faults.scenarios.matrix import SCENARIOS
from tests.faults.scenarios.scenario import Scenario

KINDS = ("lost", "duplicated", "order")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--rounds", type=int, default=10, help="of every scenario")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 100_000)
    parser.add_argument("--only", default="", help="scenarios whose name contains this")
    parser.add_argument("--load", type=int, default=4, help="requests per round, relative to `make test`")
    parser.add_argument("--worlds", type=int, default=3, help="scenarios played side by side")
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}, load {chosen.load}", flush=True)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # brokers that are away are meant to be
    outcomes, broken = asyncio.run(_play(chosen))
    Console(width=150).print(table(outcomes))
    if broken:
        print(f"broke down: {', '.join(broken)}")
    return 1 if broken or any(outcome.violations for outcome in outcomes) else 0


async def _play(chosen: argparse.Namespace) -> tuple[list[Outcome], list[str]]:
    """(outcomes, names of the scenarios that broke down)"""
    scenarios = [scenario for scenario in SCENARIOS if chosen.only in scenario.name]
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        engine = build_engine(Path(folder))
        cluster = Cluster(Path(folder) / "kafka")
        await cluster.start()
        stage = Stage(cluster, engine, chosen.worlds)

        async def played(scenario: Scenario) -> Outcome | None:
            try:
                outcome = await stage.play([scenario], chosen.seed, chosen.rounds, chosen.load)
            except Exception:
                # The others can still be played; a scenario that breaks down proves nothing.
                traceback.print_exc()
                return None
            print(
                f"{outcome.scenario}: {len(outcome.history.told)}/{len(outcome.history.asked)} answered, "
                f"{len(outcome.violations)} violations, {outcome.seconds:.0f} s",
                flush=True,
            )
            if outcome.violations:
                print(outcome, flush=True)
            return outcome

        try:
            outcomes = await asyncio.gather(*map(played, scenarios))
        finally:
            await cluster.stop()
    broken = [scenario.name for scenario, outcome in zip(scenarios, outcomes, strict=True) if outcome is None]
    return [outcome for outcome in outcomes if outcome is not None], broken


def table(outcomes: list[Outcome]) -> Table:
    """`others`: violations of other kinds. `in flight` and `recovery` are medians, see Outcome."""
    columns = ("rounds", "requests", "lost", "duplicated", "order", "others", "redelivered", "aborted")
    told = Table("scenario", *columns, "in flight", "recovery", "slowest")
    for outcome in outcomes:
        kinds = [outcome.count(kind) for kind in KINDS]
        told.add_row(
            outcome.scenario,
            str(len(outcome.played)),
            str(outcome.requests),
            *map(str, kinds),
            str(len(outcome.violations) - sum(kinds)),
            str(outcome.redelivered),
            str(outcome.aborted),
            f"{statistics.median(outcome.in_flight):.0f}" if outcome.in_flight else "",
            f"{statistics.median(outcome.recoveries):.1f} s" if outcome.recoveries else "",
            f"{max(outcome.recoveries):.1f} s" if outcome.recoveries else "",
        )
    sums = [sum(outcome.count(kind) for outcome in outcomes) for kind in KINDS]
    told.add_section()
    told.add_row(
        "all",
        str(sum(len(outcome.played) for outcome in outcomes)),
        str(sum(outcome.requests for outcome in outcomes)),
        *map(str, sums),
        str(sum(len(outcome.violations) for outcome in outcomes) - sum(sums)),
    )
    return told


if __name__ == "__main__":
    sys.exit(main())
