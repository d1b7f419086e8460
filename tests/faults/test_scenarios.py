"""One short round of every fault. `make chaos` plays many; the seed of a failed round is in its message."""

import os

import pytest

from tests.faults.campaign import play
from tests.faults.scenarios import SCENARIOS

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "1"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_every_request_is_answered_once(cluster, engine, scenario):
    if missing := scenario.ready():
        pytest.skip(missing)
    outcome = await play(cluster, engine, scenario, SEED, ROUNDS)
    assert not outcome.violations, str(outcome)
    assert outcome.replies >= outcome.requests > 0
