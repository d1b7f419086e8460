"""Several engines in one process: who takes the next request, who gets which memory."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from engines.errors import EngineFailed, EngineTooLarge
from engines.serve.costs import StepCosts
from engines.serve.pool.choice import least_loaded, speeds
from engines.serve.pool.pool import Pool
from engines.serve.pool.replica import Replica
from engines.serve.pool.shares import Place, shares

RATES = st.floats(0.1, 1e4)


def replica(seconds=None):
    return Replica(SimpleNamespace(alive=True, decode_seconds=seconds or {}))


@given(st.lists(st.tuples(st.integers(0, 50), RATES), min_size=1, max_size=6), st.data())
def test_the_chosen_one_waits_shortest_or_keeps_the_conversation_at_twice_that(loads, data):
    open_, speed = zip(*loads, strict=True)
    waits = [(count + 1) / rate for count, rate in loads]
    assert waits[least_loaded(open_, speed)] == min(waits)
    kept = data.draw(st.sampled_from(range(len(loads))))
    chosen = least_loaded(open_, speed, kept)
    assert chosen == kept if waits[kept] <= 2 * min(waits) else waits[chosen] == min(waits)


def test_a_burst_is_shared_out_by_speed():
    pool = Pool()
    fast, slow = replica({1: 0.001, 4: 0.002}), replica({1: 0.003, 4: 0.008})
    pool.put("m", [slow, fast])
    leases = [pool.lease("m") for _ in range(100)]
    for lease in leases:
        lease.__enter__()
    assert (fast.open, slow.open) == (80, 20)  # four times as fast at eight rows
    for lease in leases:
        lease.__exit__(None, None, None)
    assert (fast.open, slow.open) == (0, 0)


def test_speeds_are_compared_at_the_same_number_of_rows():
    """Else a replica that has only run alone would look slow beside one that batches."""
    quiet, busy = StepCosts(), StepCosts()
    quiet.record_decode(1, 0.001)
    busy.record_decode(1, 0.001)
    busy.record_decode(32, 0.004)
    assert speeds([quiet.decode_seconds, busy.decode_seconds]) == [1000, 1000]
    assert (quiet.tokens_per_second(), busy.tokens_per_second()) == (1000, 8000)
    assert speeds([{}, {1: 1.0}]) == [1.0, 1.0]
    assert speeds([{1: 0.001}, {1: 1.0}]) == [1000, 125]


def test_a_follow_up_goes_where_the_conversation_is():
    pool = Pool()
    pool.put("m", [replica(), replica(), replica()])
    with pool.lease("m", b"a") as first, pool.lease("m", b"b") as other:
        assert first is not other
    for _ in range(3):
        with pool.lease("m", b"b") as again:
            assert again is other
    other.engine.alive = False
    with pool.lease("m", b"b") as moved:
        assert moved is not other


class Serving(RuleBasedStateMachine):
    """Leases, switches, retirements and failures in any order."""

    def __init__(self):
        super().__init__()
        self.pool, self.leases, self.released, self.all = Pool(), [], [], []

    @rule(name=st.sampled_from("ab"), count=st.integers(1, 3))
    def switch(self, name, count):
        fresh = [replica() for _ in range(count)]
        self.all += fresh
        for one in self.pool.put(name, fresh):
            one.retire(self.released.append)

    @rule(name=st.sampled_from("ab"))
    def drop(self, name):
        if name in self.pool.names:
            for one in self.pool.drop(name):
                one.retire(self.released.append)

    @rule(name=st.sampled_from("ab"), conversation=st.none() | st.integers(0, 3))
    def begin(self, name, conversation):
        if not self.pool.alive(name):
            with pytest.raises((KeyError, EngineFailed)):
                self.pool.lease(name, conversation).__enter__()
            return
        lease = self.pool.lease(name, conversation)
        chosen = lease.__enter__()
        assert not chosen.retiring and chosen.alive and chosen in self.pool.replicas(name)
        self.leases.append((lease, chosen))

    @rule(data=st.data())
    def end(self, data):
        if self.leases:
            lease, _ = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
            lease.__exit__(None, None, None)

    @rule(data=st.data())
    def fail(self, data):
        if self.all:
            data.draw(st.sampled_from(self.all)).engine.alive = False

    @invariant()
    def the_accounts_are_right(self):
        for one in self.all:
            assert one.open == sum(chosen is one for _, chosen in self.leases)
            assert self.released.count(one) == (one.retiring and not one.open)

    def teardown(self):
        for lease, _ in self.leases:
            lease.__exit__(None, None, None)
        assert all(one.open == 0 for one in self.all)
        assert all(self.released.count(one) == one.retiring for one in self.all)


TestServing = Serving.TestCase
TestServing.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)

PLACES = st.lists(
    st.builds(
        Place, st.sampled_from("abc"), st.sampled_from(["cpu", "0", "1"]), st.none() | st.floats(0.01, 1)
    ),
    max_size=6,
)


@given(PLACES)
def test_a_device_is_given_away_once(places):
    try:
        found = shares(places)
    except EngineTooLarge:
        overfull = [
            sum(place.memory or 0.001 for place in places if place.device == device)
            for device in ("cpu", "0", "1")
        ]
        assert max(overfull) > 1
        return
    for device in ("cpu", "0", "1"):
        here = [share for place, share in zip(places, found, strict=True) if place.device == device]
        assert len(here) == 1 or all(here)
        assert sum(share or 0 for share in here) <= 1 + 1e-6
    for place, share in zip(places, found, strict=True):
        assert place.memory in (None, share)


def test_too_much_is_refused_by_name():
    with pytest.raises(EngineTooLarge, match=r"on 0 \(big, small\) share out 120% .*; lower `memory`"):
        shares([Place("big", "0", 0.8), Place("small", "0", 0.4), Place("other", "cpu")])
    with pytest.raises(EngineTooLarge, match="leave nothing to the rest"):
        shares([Place("big", "0", 1.0), Place("small", "0")])
