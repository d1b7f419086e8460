"""Phrasing files: the split is fixed, both parts are large enough, alternatives expand."""

from random import Random

import pytest

from engines.demo.dialogue import PRIORITIES, TOOL_NAMES
from engines.demo.phrasing import LANGUAGES, SMALL_TALK, Phrasings, expand, fill, held_out


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_parts_are_disjoint_and_about_a_fifth_is_held_out(language):
    train, held = Phrasings.load(language, "train").lines, Phrasings.load(language, "held_out").lines
    assert train.keys() == held.keys()
    assert all(not set(train[stem]) & set(held[stem]) for stem in train)
    count = sum(map(len, held.values()))
    assert 0.16 < count / (count + sum(map(len, train.values()))) < 0.24


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_file_the_synthesis_reads_has_lines_in_both_parts(language):
    stems = {
        *TOOL_NAMES,
        *SMALL_TALK,
        "out_of_scope",
        "prefix",
        "suffix",
        "subjects",
        "queries",
        "services",
        "articles",
    }
    stems = stems - {"create_ticket"} | {f"create_ticket.{priority}" for priority in PRIORITIES}
    for part in ("train", "held_out"):
        lines = Phrasings.load(language, part).lines
        assert stems == lines.keys()
        assert all(lines.values())


def test_the_split_depends_on_the_line_alone():
    assert [held_out(f"line {n}") for n in range(12)] == [held_out(f"line {n}") for n in range(12)]
    assert 0.15 < sum(held_out(f"line {n}") for n in range(2000)) / 2000 < 0.25


def test_alternatives_expand_to_each_of_their_words():
    seen = {expand("[Please |]status [of|for] {order_id}", Random(n)) for n in range(60)}
    assert seen == {f"{lead}status {word} {{order_id}}" for lead in ("Please ", "") for word in ("of", "for")}


def test_a_slot_without_a_value_is_named():
    with pytest.raises(KeyError, match="order_id"):
        fill("status {order_id}", {})
