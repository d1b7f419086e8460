"""Scheduling without a model: a loop that only does what the scheduler says."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.serve.costs import StepCosts
from engines.serve.generation import Generation
from engines.serve.prompt import Prompt
from engines.serve.row import Row
from engines.serve.scheduler import Scheduler, common_length
from engines.serve.slots import SlotTable

CAPACITY = 40


def row(number, ids, limit=5, **options):
    return Row(
        number=number,
        prompt=Prompt(ids, limit, **options),
        limit=limit,
        stops=frozenset(),
        seed=0,
        submitted=float(number),
        generation=Generation(lambda _: None),
    )


def scheduler(slots=4, rows=None, chunk=1024, **options):
    return Scheduler(SlotTable(slots, CAPACITY, rows), StepCosts(chunk=chunk), **options)


def step(plan, rng):
    """One step: every due row gets a random token; returns the rows that ended."""
    plan.admit()
    plan.settle()
    plan.check()
    assert [r.slot for r in plan.rows] == list(range(len(plan.rows)))
    due = []
    pieces = plan.pieces()
    assert sum(piece.stop - piece.start for piece in pieces) <= plan.costs.chunk
    for piece in pieces:
        plan.table.extend(piece.row.slot, piece.row.known[piece.start : piece.stop])
        if plan.backlog(piece.row) == 0:
            due.append(piece.row)
    decoded = plan.decodes() or due
    for r in due:
        r.known.append(rng.randrange(3))
    if decoded:
        tokens = np.array([r.known[plan.computed(r)] for r in plan.rows])
        plan.table.extend_each(np.arange(len(tokens)), tokens)
        for r in plan.rows:
            if plan.backlog(r) == 0:
                r.known.append(rng.randrange(3))
    assert pieces or decoded or not plan.busy, "a step without progress"
    ended = [r for r in plan.rows if len(r.known) >= r.full]
    for r in ended:
        plan.end(r)
    return ended


@given(
    prompts=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=30), min_size=1, max_size=12),
    slots=st.integers(1, 5),
    chunk=st.integers(1, 50),
    seed=st.integers(0, 99),
)
@settings(max_examples=80, deadline=None)
def test_every_row_ends_and_none_is_lost(prompts, slots, chunk, seed):
    rng = random.Random(seed)
    plan = scheduler(slots, rng.randint(1, slots), chunk, share=rng.choice([2, 16]))
    waiting = [row(i, ids, rng.randint(1, 9), priority=rng.randrange(2)) for i, ids in enumerate(prompts)]
    everyone, ended = list(waiting), []
    for _ in range(2000):
        while waiting and rng.random() < 0.3:
            plan.add(waiting.pop())
        if plan.busy and rng.random() < 0.05:
            victim = rng.choice([r for r in everyone if r not in ended and r not in waiting])
            if victim.slot is None:
                assert plan.drop_queued(victim)
            else:
                plan.end(victim)
            ended.append(victim)
        ended += step(plan, rng)
        if not waiting and not plan.busy:
            break
    assert sorted(r.number for r in ended) == sorted(r.number for r in everyone)
    assert plan.table.active == plan.queued == 0


def test_priority_then_deadline_then_arrival():
    plan = scheduler(slots=1, patience=30.0)
    rows = [
        row(0, [1]),
        row(1, [1], deadline=100.0),
        row(2, [1], deadline=20.0),
        row(3, [1], priority=1, deadline=500.0),
        row(4, [1]),
    ]
    for r in rows:
        plan.add(r)
    order = []
    while plan.busy:
        order += [r.number for r in step(plan, random.Random(0))]
    assert order == [3, 2, 0, 4, 1]  # 30 s of patience put 0 and 4 before the deadline at 100 s


def test_a_long_prompt_does_not_hold_up_rows_that_decode():
    plan, rng = scheduler(slots=2, chunk=4), random.Random(0)
    talking = row(0, [1, 1], limit=30)
    plan.add(talking)
    step(plan, rng)
    plan.add(row(1, [2] * 30))
    for _ in range(6):
        before = len(talking.known)
        step(plan, rng)
        assert len(talking.known) == before + 1


def test_deadlines_are_told_once_and_in_time():
    plan = scheduler(slots=1)
    for number, deadline in enumerate([5.0, None, 3.0]):
        plan.add(row(number, [1], deadline=deadline))
    assert plan.next_deadline() == 3.0
    assert [r.number for r in plan.overdue(4.0)] == [2]
    assert plan.overdue(4.0) == []
    assert plan.next_deadline() == 5.0


def test_prompts_wait_for_the_prefix_that_is_being_computed():
    plan, rng = scheduler(slots=4, chunk=8, share=4), random.Random(0)
    first, second, stranger = row(0, [1] * 20 + [2]), row(1, [1] * 20 + [0]), row(2, [0, 2])
    for r in (first, second, stranger):
        plan.add(r)
    admitted = plan.admit()[0]
    assert admitted == [first, stranger]
    for _ in range(5):
        step(plan, rng)
    assert second.cached_tokens >= 16


def test_broken_accounting_is_said_loudly():
    plan = scheduler()
    plan.add(row(0, [1, 2, 3]))
    step(plan, random.Random(0))
    plan.table.tokens[0, 1] = 9
    with pytest.raises(RuntimeError, match="other tokens"):
        plan.check()
    plan.table.owners[2] = 7
    with pytest.raises(RuntimeError, match="outside the bound"):
        plan.check()


def test_common_length():
    assert common_length(np.array([1, 2, 3]), np.array([1, 2, 4, 5])) == 2
    assert common_length(np.array([1]), np.array([1, 2])) == 1
    assert common_length(np.array([], np.int64), np.array([1])) == 0


def test_what_has_ended_is_forgotten_although_a_nearer_deadline_is_open():
    """A heap lets go of what comes to its top, and these never do."""
    plan = scheduler(slots=1)
    plan.add(row(0, [1, 2], deadline=100.0, priority=1))
    plan.admit()
    for number in range(1, 400):
        gone = row(number, [1, 2], deadline=1e6)
        plan.add(gone)
        plan.drop_queued(gone)
    assert len(plan._deadlines) < 100
    assert len(plan._queue) < 100
    assert plan.next_deadline() == 100.0
