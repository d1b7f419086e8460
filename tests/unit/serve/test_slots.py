"""Slot accounting against a table that copies real contents."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engines.serve.slots import Copy, SlotTable

CAPACITY = 12


def ids(*tokens):
    return np.array(tokens, np.int64)


def test_a_prompt_takes_over_the_slot_that_knows_it():
    table = SlotTable(3, CAPACITY)
    assert table.place(1, ids(5, 6, 7)) == (0, 0, [])
    table.extend(0, ids(5, 6, 7))
    table.release(0)
    assert table.place(2, ids(5, 6, 7, 8)) == (0, 3, [])


def test_the_last_token_of_a_prompt_is_always_computed():
    table = SlotTable(2, CAPACITY)
    table.place(1, ids(5, 6, 7))
    table.extend(0, ids(5, 6, 7))
    table.release(0)
    assert table.place(2, ids(5, 6, 7)).cached == 2


def test_a_prefix_is_copied_from_a_running_row():
    table = SlotTable(3, CAPACITY)
    table.place(1, ids(5, 6, 7))
    table.extend(0, ids(5, 6, 7))
    assert table.place(2, ids(5, 6, 9)) == (1, 2, [Copy(0, 1, 2)])


def test_a_short_common_prefix_does_not_destroy_a_long_conversation():
    table = SlotTable(2, CAPACITY, rows=1)
    table.place(1, ids(1, 2, 3, 4, 5, 6))
    table.extend(0, ids(1, 2, 3, 4, 5, 6))
    table.release(0)
    placement = table.place(2, ids(1, 9, 9))
    assert placement.cached == 1
    assert table.shared_lengths(ids(1, 2, 3, 4, 5, 6)).max() == 6


def test_compaction_keeps_what_the_finished_row_computed():
    table = SlotTable(3, CAPACITY, rows=2)
    for owner in (0, 1):
        table.place(owner, ids(owner, 2, 3))
        table.extend(owner, ids(owner, 2, 3))
    table.release(0)
    copies, moves = table.compact()
    assert copies == [Copy(0, 2, 3), Copy(1, 0, 3)]
    assert moves == [(1, 0)]
    assert table.shared_lengths(ids(0, 2, 3)).tolist() == [0, 0, 3]


def test_the_stalest_cache_is_evicted_first():
    table = SlotTable(3, CAPACITY, rows=1)
    for owner in range(4):
        table.place(owner, ids(owner, 1))
        table.extend(0, ids(owner, 1))
        table.release(0)
        table.compact()
    held = [bool(table.shared_lengths(ids(owner, 1)).max()) for owner in range(4)]
    assert held == [False, True, True, True]


def test_more_rows_than_may_run_are_refused():
    table = SlotTable(2, CAPACITY, rows=1)
    table.place(1, ids(1))
    with pytest.raises(RuntimeError, match="taken"):
        table.place(2, ids(1))
    with pytest.raises(ValueError, match="rows"):
        SlotTable(2, CAPACITY, rows=3)


@given(st.lists(st.lists(st.integers(0, 1), max_size=6), min_size=1, max_size=4), st.lists(st.integers(0, 1)))
@settings(max_examples=60, deadline=None)
def test_shared_lengths_are_longest_common_prefixes(contents, tokens):
    table = SlotTable(len(contents), CAPACITY)
    for slot, content in enumerate(contents):
        table.extend(slot, content)
    expected = []
    for content in contents:
        n = 0
        while n < min(len(content), len(tokens)) and content[n] == tokens[n]:
            n += 1
        expected.append(n)
    assert table.shared_lengths(ids(*tokens)).tolist() == expected


class SlotMachine(RuleBasedStateMachine):
    """Random traffic; `memory` is the KV and changes only by what was computed and the copies asked for."""

    def __init__(self):
        super().__init__()
        self.table = SlotTable(5, CAPACITY, rows=4)
        self.memory = [[None] * CAPACITY for _ in range(5)]
        self.rows = {}
        self.number = 0

    def copy(self, copies):
        for source, target, length in copies:
            self.memory[target][:length] = self.memory[source][:length]

    def slot(self, owner):
        return self.table.owners.index(owner)

    @precondition(lambda self: len(self.rows) < 4)
    @rule(prompt=st.lists(st.integers(0, 2), min_size=1, max_size=CAPACITY - 1))
    def place(self, prompt):
        self.number += 1
        best = int(self.table.shared_lengths(ids(*prompt[:-1])).max())
        placement = self.table.place(self.number, ids(*prompt))
        self.copy(placement.copies)
        assert placement.cached == best
        assert self.memory[placement.slot][: placement.cached] == prompt[: placement.cached]
        self.rows[self.number] = prompt

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def compute(self, data):
        owner = data.draw(st.sampled_from(sorted(self.rows)))
        slot = self.slot(owner)
        start = int(self.table.valid[slot])
        known = self.rows[owner]
        if start == len(known) < CAPACITY:
            known.append(data.draw(st.integers(0, 2)))
        stop = data.draw(st.integers(start, len(known)))
        self.memory[slot][start:stop] = known[start:stop]
        self.table.extend(slot, known[start:stop])

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def release(self, data):
        owner = data.draw(st.sampled_from(sorted(self.rows)))
        self.table.release(self.slot(owner))
        del self.rows[owner]

    @rule()
    def compact(self):
        copies, moves = self.table.compact()
        self.copy(copies)
        assert sorted(owner for owner in self.table.owners if owner is not None) == sorted(self.rows)
        assert self.table.bound == self.table.active == len(self.rows)
        for owner, slot in moves[-1:]:
            assert self.table.owners[slot] == owner

    @invariant()
    def what_is_valid_was_computed(self):
        self.table.check()
        for slot in range(5):
            valid = int(self.table.valid[slot])
            assert self.memory[slot][:valid] == self.table.tokens[slot, :valid].tolist()
        for owner, known in self.rows.items():
            slot = self.slot(owner)
            assert (
                self.table.tokens[slot, : self.table.valid[slot]].tolist() == known[: self.table.valid[slot]]
            )


TestSlotMachine = SlotMachine.TestCase
TestSlotMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
