"""One short round of every fault. `make chaos` plays many; the seed of a failed round is in its message."""

import asyncio
import os
from itertools import groupby
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults.campaign import Stage
from tests.faults.scenarios.matrix import SCENARIOS

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "1"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
WORLDS = 3
HERE = Path(__file__)
# Daemons take seconds to start: neighbours that need the same world share one, as long as others have work.
TOGETHER = 4
ALIKE = [
    list(found) for _, found in groupby(SCENARIOS, lambda one: (one.play.__module__, one.setting, one.alone))
]
GROUPS = {
    " + ".join(scenario.name for scenario in alike[first : first + TOGETHER]): alike[first : first + TOGETHER]
    for alike in ALIKE
    for first in range(0, len(alike), TOGETHER)
}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def playing(request, cluster, engine):
    """Those that are asked for, by name, side by side: each test waits for its own."""
    stage = Stage(cluster, engine, WORLDS)
    chosen = [item.callspec.params["name"] for item in request.session.items if item.path == HERE]
    tasks = {name: asyncio.create_task(stage.play(GROUPS[name], SEED, ROUNDS)) for name in chosen}
    yield tasks
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", GROUPS, ids=list(GROUPS))
async def test_every_request_is_answered_once(playing, name):
    outcome = await playing[name]
    assert not outcome.violations, str(outcome)
    assert len(outcome.played) == len(GROUPS[name]) * ROUNDS
