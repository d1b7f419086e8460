"""What a conversation is under deliveries that repeat, overtake and come from the dead."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.memory.exchange import Exchange, before, dump, load, put, window, without


def exchange(offset, attempt=1, *, tokens=10, partition=0, role="user", text=None):
    message = {"role": role, "content": text or f"{offset}.{attempt}"}
    return Exchange(partition, offset, attempt, (message,), tokens)


def offsets(exchanges):
    return [e.offset for e in exchanges]


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(1, 4)), max_size=40),
    st.integers(1, 12),
)
def test_every_request_is_there_once_as_its_last_delivery_left_it(deliveries, most):
    known = ()
    last = {}
    for offset, attempt in deliveries:
        known = put(known, exchange(offset, attempt), most)
        assert len(known) <= most and len(set(offsets(known))) == len(known)
        assert [e.number for e in known] == list(range(known[0].number, known[0].number + len(known)))
        last[offset] = max(last.get(offset, 0), attempt) if offset in offsets(known) else attempt
        seen = before(known, 0, offset)
        assert all(e.offset < offset for e in seen)
    if most > 12:
        assert all(e.attempt == last[e.offset] for e in known)
    assert load(dump(known)) == known


def test_a_redelivery_replaces_its_turn_in_place():
    known = put(put(put((), exchange(3), 8), exchange(5), 8), exchange(7), 8)
    again = put(known, exchange(5, attempt=2), 8)
    assert offsets(again) == [3, 5, 7] and again[1].messages[0]["content"] == "5.2"
    assert [e.number for e in again] == [0, 1, 2]


def test_a_former_owner_that_wakes_up_changes_nothing():
    known = put((), exchange(5, attempt=2), 8)
    assert put(known, exchange(5, attempt=1), 8) == known
    assert without(known, exchange(5, attempt=1)) == known
    assert without(known, exchange(5, attempt=3)) == ()


def test_a_redelivered_request_sees_neither_itself_nor_what_came_later():
    known = ()
    for offset in (3, 5, 7):
        known = put(known, exchange(offset), 8)
    assert offsets(before(known, 0, 5)) == [3]
    assert offsets(before(known, 1, 5)) == [3, 5, 7]  # the topic got more partitions


def test_the_last_that_fit():
    known = ()
    for offset in range(6):
        known = put(known, exchange(offset), 16)
    assert offsets(window(known, 3, 1000)) == [3, 4, 5]
    assert offsets(window(known, 10, 25)) == [4, 5]
    assert offsets(window(known, 10, 9)) == []
    assert window((), 3, 100) == ()


def test_what_is_too_long_cuts_off_everything_before_it():
    known = put(put(put((), exchange(1), 8), exchange(2, tokens=5000), 8), exchange(3), 8)
    assert offsets(window(known, 8, 100)) == [3]


def test_results_of_calls_never_lose_their_calls():
    known = ()
    for offset, role in enumerate(("user", "user", "tool", "tool", "user")):
        known = put(known, exchange(offset, role=role), 16)
    assert offsets(window(known, 3, 1000)) == [4]
    assert offsets(window(known, 4, 1000)) == [1, 2, 3, 4]
    assert window(known[2:4], 4, 1000) == ()


def test_the_beginning_moves_seldom():
    """So that a prompt mostly continues the last one and its KV is used again."""
    known, starts = (), []
    for offset in range(40):
        known = put(known, exchange(offset), 16)
        shown = window(known, 8, 1000)
        assert 7 <= len(shown) <= 8 or offset < 7
        assert offsets(shown)[-1] == offset
        starts.append(shown[0].offset)
    moves = sum(a != b for a, b in pairwise(starts))
    assert moves == 16  # every second time of 32


@given(
    st.lists(st.tuples(st.integers(1, 50), st.sampled_from(["user", "user", "tool"])), max_size=30),
    st.integers(1, 10),
    st.integers(1, 200),
)
def test_a_window_keeps_its_bounds_and_opens_well(given_, most, tokens):
    known = ()
    for offset, (size, role) in enumerate(given_):
        known = put(known, exchange(offset, tokens=size, role=role), 20)
    shown = window(known, most, tokens)
    assert len(shown) <= most and sum(e.tokens for e in shown) <= tokens
    assert shown == known[len(known) - len(shown) :]
    if shown:
        assert shown[0].opens
    elif known and known[-1].opens:
        assert known[-1].tokens > tokens


def test_what_something_else_wrote_is_no_conversation():
    for value in (b"x", b"{}", b'[{"offset": 1}]'):
        with pytest.raises(ValueError, match="valid"):
            load(value)
    assert load(None) == load(b"") == ()
