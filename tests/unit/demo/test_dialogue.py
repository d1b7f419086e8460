"""Synthesis: what a dialogue asks for can be copied from it, and nothing held out is trained on."""

import json
import re
from collections import Counter

import pytest

from engines.demo.corpus import words
from engines.demo.dialogue import PRIORITIES, SHARES, TOOL_NAMES, TOOLS, Author
from engines.demo.phrasing import LANGUAGES, SLOT, SMALL_TALK

LEXICON = words()


@pytest.fixture(params=LANGUAGES)
def author(request):
    return Author(request.param, "train", 3, LEXICON)


@pytest.mark.parametrize("tool", TOOL_NAMES)
def test_every_argument_stands_in_the_request(author, tool):
    for _ in range(300):
        request = author.request(tool)
        for name, value in request.arguments.items():
            if name == "amount":
                assert value in request.text.replace(",", "")
            elif name != "priority":
                assert value in request.text


def test_where_a_value_ends_can_be_told(author):
    heads = {"en": ("server", "service", "system"), "zh": ("服务", "系统")}[author.language]
    for _ in range(500):
        service = author.request("service_status").arguments["service"].lower()
        assert not service.endswith(heads)


def test_a_random_subject_has_no_word_and_no_article_of_the_phrasing():
    author = Author("en", "train", 3, LEXICON)
    author._phrases["subject"].random_share = 1.0
    template = "file a {subject} for {user_id}"
    subjects = [author.request("create_ticket", template).arguments["subject"] for _ in range(300)]
    said = " ".join(author.phrasings.lines["create_ticket.low"])
    words = {word for subject in subjects for word in subject.split() if word.isascii()}
    assert len(words) > 300
    assert not words & set(re.findall(r"\b[a-z]{4,}\b", said))
    assert not words & {"a", "an", "the", "my", "our", "his", "her", "their", "some"}


@pytest.mark.parametrize("tool", TOOL_NAMES)
def test_arguments_are_canonical_json_in_schema_order(author, tool):
    schema = next(t["function"]["parameters"] for t in TOOLS if t["function"]["name"] == tool)
    for _ in range(100):
        request = author.request(tool)
        arguments = json.loads(request.arguments_json)
        assert list(arguments) == list(schema["properties"])
        if "amount" not in arguments:
            assert request.arguments_json == json.dumps(arguments, ensure_ascii=False)


def test_every_slot_is_filled(author):
    for kind in (*TOOL_NAMES, *SMALL_TALK, "out_of_scope"):
        for _ in range(100):
            text = author.request(kind).text
            assert not SLOT.search(text)
            assert "[" not in text
            assert "|" not in text


def test_templates_have_exactly_the_slots_of_their_tool(author):
    for tool in TOOL_NAMES:
        schema = next(t["function"]["parameters"] for t in TOOLS if t["function"]["name"] == tool)
        for stem, template in author.held(tool):
            expanded = author.phrasings.expand(template, author.rng)
            assert sorted(SLOT.findall(expanded)) == sorted(schema["required"]), (stem, template, expanded)


def test_tools_come_by_their_shares_and_priorities_about_equally_often(author):
    requests = [author.any_request() for _ in range(4000)]
    kinds = Counter(request.kind for request in requests)
    for tool in TOOL_NAMES:
        share = SHARES.get(tool, 1) / sum(SHARES.get(name, 1) for name in TOOL_NAMES)
        assert kinds[tool] == pytest.approx(4000 * 0.68 * share, rel=0.25)
    priorities = Counter(r.arguments["priority"] for r in requests if r.kind == "create_ticket")
    assert min(priorities[name] for name in PRIORITIES) > 0.25 * priorities.total()


def test_a_missing_tool_is_declined(author):
    for _ in range(50):
        for message in author.dialogue(tools=[]).messages:
            assert message["role"] != "observation"
            assert not message.get("metadata")


def test_the_same_seed_writes_the_same_dialogues():
    first, second = (Author("en", "train", 9, LEXICON) for _ in range(2))
    assert [first.dialogue().messages for _ in range(20)] == [second.dialogue().messages for _ in range(20)]


def test_an_answer_repeats_the_key_values_of_its_result(author):
    from engines.demo.results import KEY_VALUES

    for _ in range(300):
        messages = author.dialogue(several=0).messages
        if len(messages) == 4 and "error" not in (result := json.loads(messages[2]["content"])):
            for key in KEY_VALUES[messages[1]["metadata"]]:
                assert str(result[key]).rstrip(".。") in messages[3]["content"]
