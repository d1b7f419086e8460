"""Phrasing files: the split is fixed, both parts are large enough, alternatives expand."""

import re
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
def test_every_file_has_lines_in_both_parts_and_is_read(language):
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
        phrasings = Phrasings.load(language, part)
        assert all(phrasings.lines.values())
        templates = [line for lines in phrasings.lines.values() for line in lines]
        named = set(re.findall(r"<([a-z_.]+)>", " ".join([*templates, *phrasings.words.values()])))
        assert named <= phrasings.lines.keys() | phrasings.words.keys()
        assert stems <= phrasings.lines.keys()
        assert not phrasings.lines.keys() & phrasings.words.keys()
    both = [line for lines in Phrasings.load(language, "train").lines.values() for line in lines] + templates
    named = set(re.findall(r"<([a-z_.]+)>", " ".join([*both, *phrasings.words.values()])))
    assert phrasings.lines.keys() - stems | phrasings.words.keys() == named | {"head"}, "nothing reads these"


def test_the_split_depends_on_the_line_alone():
    assert [n for n in range(12) if held_out(f"line {n}")] == [4, 10]
    assert 0.15 < sum(held_out(f"line {n}") for n in range(2000)) / 2000 < 0.25


def test_alternatives_expand_to_each_of_their_words():
    seen = {expand("[Please |]status [of|for] {order_id}", Random(n)) for n in range(60)}
    assert seen == {f"{lead}status {word} {{order_id}}" for lead in ("Please ", "") for word in ("of", "for")}


def test_a_slot_without_a_value_is_named():
    with pytest.raises(KeyError, match="order_id"):
        fill("status {order_id}", {})


def test_a_name_is_a_line_of_the_same_part_or_a_word():
    train, held = ({"id": ["order {order_id}"]}, {"id": ["number {order_id}"]})
    for lines in (train, held):
        phrasings = Phrasings("en", lines, {"where": "where is|track"}, {})
        seen = {phrasings.expand("<where> <id>?", Random(n)) for n in range(40)}
        assert seen == {f"{word} {lines['id'][0]}?" for word in ("where is", "track")}


def test_alternatives_may_stand_in_one_another_and_leave_no_odd_spaces():
    seen = {expand("a [b [c|d]|] , e", Random(n)) for n in range(60)}
    assert seen == {"a b c, e", "a b d, e", "a, e"}


@pytest.mark.parametrize("template", ["status [of|for {order_id}", "status of|for] {order_id}", "a] [b|c"])
def test_a_bracket_alone_is_refused(template):
    with pytest.raises(ValueError, match=re.escape(repr(template))):
        expand(template, Random(1))


def test_a_name_that_stands_for_itself_is_refused():
    phrasings = Phrasings("en", {}, {"ask": "please <again>", "again": "do <ask>"}, {})
    with pytest.raises(ValueError, match="'<ask> me' stands for itself"):
        phrasings.expand("<ask> me", Random(1))


def test_an_unknown_name_is_named():
    with pytest.raises(KeyError, match="nobody"):
        Phrasings("en", {}, {}, {}).expand("<nobody> calls", Random(1))
