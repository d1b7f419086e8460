"""The cache plan: what fits, and what is said when nothing does."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import EngineTooLarge
from engines.manifest import KVLayout
from engines.serve.memory import CachePlan


def manifest(context=1000, heads=2, width=8, layers=3):
    return SimpleNamespace(
        sizes=SimpleNamespace(context=context, layers=layers),
        kv=KVLayout(shape=("slots", heads, "capacity", width)),
    )


@given(
    free=st.integers(0, 10**9),
    rows=st.none() | st.integers(1, 300),
    capacity=st.none() | st.integers(2, 1000),
    own=st.booleans(),
)
def test_a_plan_fits_or_is_refused(free, rows, capacity, own):
    per_token = 2 * 3 * 2 * 8 * 4
    try:
        plan = CachePlan.fit(manifest(), free, rows, capacity, own=own)
    except EngineTooLarge:
        tokens = capacity or 1000
        wanted = rows or 1
        assert (wanted + max(1, wanted // 8)) * tokens * per_token > (free if rows or own else free // 2)
        return
    assert plan.slots * plan.capacity * per_token <= free
    assert 1 <= plan.rows < plan.slots
    assert rows in (None, plan.rows) and capacity in (None, plan.capacity)


def test_more_than_the_context_is_refused():
    with pytest.raises(EngineTooLarge, match="1000"):
        CachePlan.fit(manifest(), 10**12, 1, 1001)
