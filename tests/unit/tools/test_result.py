import datetime
import itertools
import json
from dataclasses import dataclass, field
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, computed_field

from daemon.tools.errors import ResultRefused
from daemon.tools.result import to_json, to_text


class Order(BaseModel):
    id: str
    eta: datetime.date


def test_plain_data_stays_as_it_is():
    data = {"risk": "low", "score": 0.25, "orders": ["A1"], "名": None, "ok": True}
    assert to_json(data) == data
    assert list(to_json(data)) == list(data)
    assert to_text(data) == '{"risk": "low", "score": 0.25, "orders": ["A1"], "名": null, "ok": true}'


def test_typed_values_become_json():
    assert to_json([Order(id="A1", eta=datetime.date(2026, 12, 3)), Decimal("1.5"), {1, 2}, (3,)]) == [
        {"id": "A1", "eta": "2026-12-03"}, "1.5", [1, 2], [3],
    ]  # fmt: skip


def circular():
    value = []
    value.append(value)
    return value


def bottomless(levels=100_000):
    top = inner = []
    for _ in range(levels - 1):
        inner.append([])
        inner = inner[0]
    return top


@dataclass
class Unset:
    total: int = field(init=False)


class Computed(BaseModel):
    @computed_field
    def total(self) -> int:
        raise Mute


class Mute(Exception):
    def __str__(self):
        raise RuntimeError


def broken():
    yield 1
    raise KeyError("x")


@pytest.mark.parametrize(
    "value",
    [
        Unset(),
        Computed(),
        {"rows": broken()},
        object(),
        print,
        b"\xff",
        circular(),
        bottomless(),
        bottomless(129),
        {"k\udc00": 1},
        10**5000,
        itertools.count(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_poison_is_refused_with_a_sentence(value):
    with pytest.raises(ResultRefused, match="the tool returned"):
        to_json(value)


def test_what_a_reply_can_hold_is_not_too_deep():
    assert to_json(bottomless(128)) == bottomless(128)


def test_what_json_lacks_is_replaced():
    assert to_json({"a": [float("nan"), float("inf"), 1.5]}) == {"a": [None, None, 1.5]}
    assert to_json("a\ud800b") == "a�b"


def test_large_results_are_cut():
    (text,) = to_json(["你" * 100], limit=50).values()
    assert len(text.encode()) <= 50
    assert text.startswith('["你你')


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(value=JSON)
def test_every_result_can_go_on_the_wire(value):
    text = to_text(to_json(value))
    assert json.loads(text.encode()) == to_json(value)
