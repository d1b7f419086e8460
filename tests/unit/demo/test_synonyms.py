"""Words of a phrasing replaced by others of the same meaning."""

import re
from random import Random

import pytest

from engines.demo.phrasing import LANGUAGES
from engines.demo.synonyms import FOLDER, Synonyms

TABLE = {"order": ["purchase"], "look up": ["find"], "what's": ["tell me"]}


def test_the_longest_that_fits_is_replaced_and_slots_stay():
    varied = Synonyms(TABLE, spaced=True).vary("Look up order {order}, reorder; what's up", Random(1), 1.0)
    assert varied == "Find purchase {order}, reorder; tell me up"


def test_a_share_of_the_words():
    rng = Random(1)
    varied = Synonyms(TABLE, spaced=True).vary("order " * 400, rng, 0.25)
    assert 60 < varied.count("purchase") < 140
    assert Synonyms(TABLE, spaced=True).vary("order", rng, 0.0) == "order"


def test_words_without_spaces_between():
    synonyms = Synonyms({"订单": ["单子"], "查一下": ["瞧瞧"]}, spaced=False)
    assert synonyms.vary("请查一下订单{order_id}到哪了", Random(1), 1.0) == "请瞧瞧单子{order_id}到哪了"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_tables_hold_plain_words_only(language):
    table = Synonyms.load(language)._table
    assert len(table) > 500
    for key, others in table.items():
        assert key == key.lower() and key not in others and len(set(others)) == len(others), key
        assert all(other and other == other.strip() for other in others), key
        assert not re.search(r"[\d{}\[\]<>|]", key + "".join(others)), key
    keys = [
        line.split(": ", 1)[0]
        for line in (FOLDER / f"{language}.synonyms.txt").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert len(keys) == len(set(keys))
