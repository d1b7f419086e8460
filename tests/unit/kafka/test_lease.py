"""A lease lasts a session timeout from when the acknowledged heartbeat was sent, not answered."""

from types import SimpleNamespace

import pytest

from daemon.kafka.lanes import lease as module
from daemon.kafka.lanes.lease import Lease


@pytest.fixture
def group(monkeypatch):
    """`now`: the clock. `acknowledges`: whether the brokers do. `seconds`: until they answer."""
    group = SimpleNamespace(now=100.0, acknowledges=True, seconds=0.0, beats=0)
    monkeypatch.setattr(module, "_now", lambda: group.now)

    async def beat():
        group.beats += 1
        group.now += group.seconds
        return group.acknowledges

    group.coordinator = SimpleNamespace(_do_heartbeat=beat)
    return group


@pytest.fixture
def lease(group):
    return Lease(SimpleNamespace(_coordinator=group.coordinator), 10.0)


async def test_it_is_not_held_before_a_heartbeat_and_asked_for_once(group, lease):
    assert not lease.held
    assert await lease.renew()
    assert await lease.renew()
    assert group.beats == 1


async def test_it_counts_from_the_sending(group, lease):
    group.seconds = 4.0
    assert await lease.renew()
    group.now = 109.9
    assert lease.held
    group.now = 110.0
    assert not lease.held
    group.seconds = 11.0
    assert not await lease.renew()


async def test_it_lapses_by_silence_alone(group, lease):
    assert not lease.lapsed
    await lease.renew()
    group.now = 109.9
    assert not lease.lapsed
    group.now = 110.0
    assert lease.lapsed
    lease.lose()  # as before a rebalance, of which brokers have told
    assert not lease.lapsed


async def test_the_clients_own_heartbeats_prolong_it(group, lease):
    await lease.renew()
    group.now = 108.0
    await group.coordinator._do_heartbeat()
    group.now = 117.0
    assert lease.held


async def test_a_refusal_prolongs_nothing(group, lease):
    await lease.renew()
    group.now, group.acknowledges = 111.0, False
    assert not await lease.renew()
    assert not lease.held


async def test_it_can_be_lost_before_its_time(group, lease):
    await lease.renew()
    lease.lose()
    assert not lease.held
