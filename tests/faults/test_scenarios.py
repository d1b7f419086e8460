"""One short round of every fault. `make chaos` plays many; the seed of a failed round is in its message."""

import os
from itertools import groupby

import pytest

from tests.faults.campaign import play
from tests.faults.scenarios.matrix import SCENARIOS

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "1"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
# Daemons take seconds to start: neighbours that need the same world share one.
GROUPS = [
    list(group)
    for _, group in groupby(SCENARIOS, lambda scenario: (scenario.play.__module__, scenario.setting))
]


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("group", GROUPS, ids=lambda group: " + ".join(scenario.name for scenario in group))
async def test_every_request_is_answered_once(cluster, engine, group):
    outcome = await play(cluster, engine, group, SEED, ROUNDS)
    assert not outcome.violations, str(outcome)
    assert len(outcome.played) == len(group) * ROUNDS
