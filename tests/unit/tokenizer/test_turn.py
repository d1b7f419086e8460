import json

import pytest
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st

from engines.tokenizer import Answer, Call
from engines.tokenizer.shield import GAP, SENTINEL

from .conftest import TICKET


@pytest.fixture(params=["glm4", "glm45", "glm47", "chatglm3"], scope="session")
def tokenizer(request):
    return request.getfixturevalue(request.param)


def marked(tokenizer, text):
    return tokenizers.Tokenizer.from_str(tokenizer.definition).encode(text, add_special_tokens=False).ids


def spoken(tokenizer, ids, size, **options):
    """A turn fed `size` tokens at a time, and everything that was visible on the way."""
    turn, seen = tokenizer.turn(**options), []
    for start in range(0, len(ids), size):
        turn.push(ids[start : start + size])
        seen.append(turn.visible)
    return turn, seen


@given(text=st.text(max_size=30), size=st.integers(1, 5))
@example(text="SELECT * FROM orders WHERE a <> b", size=1)
@example(text=f"<{GAP}>{SENTINEL}<{SENTINEL}>", size=1)
def test_an_answer_becomes_visible_bit_by_bit(glm4, text, size):
    turn, seen = spoken(glm4, glm4.encode("\n" + text), size)
    assert turn.output() == Answer(text)
    assert all(text.startswith(part) for part in seen)
    assert seen[-1] == text


@given(text=st.text('\n {}"<>/f你', max_size=30), size=st.integers(1, 5))
@example(text='f\n{"a": 1}', size=1)
@example(text="<tool_call>f\n</tool_call>", size=2)
def test_where_there_are_no_calls_all_is_an_answer(tokenizer, text, size):
    turn, seen = spoken(tokenizer, marked(tokenizer, text), size, calls=False)
    said = turn.output().text
    assert said.strip() == text.strip()
    assert all(said.startswith(part) for part in seen) and turn.visible == said


@given(text=st.text("\n <a你", max_size=30))
def test_what_was_visible_is_what_the_answer_begins_with(tokenizer, text):
    lead = tokenizer.format.answer_lead
    turn, seen = spoken(tokenizer, tokenizer.encode(lead + text), 1)
    said = turn.output()
    assert isinstance(said, Answer) and all(said.text.startswith(part) for part in seen)
    assert turn.visible == said.text


def test_a_call_stays_hidden(glm45):
    ids = marked(
        glm45, "\nLet me see.<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n</tool_call>"
    )
    turn, seen = spoken(glm45, ids, 1)
    assert seen[-1] == "Let me see."
    assert turn.output() == [Call("f", {"a": "1"})]


@pytest.mark.parametrize("arguments", ['{"a": [1, [2]], "b": "[gMASK]<sop>"}', '{"a": [], "b": []}'])
def test_lists_among_the_arguments_are_read(glm4, arguments):
    turn, _ = spoken(glm4, glm4.encode("f\n" + arguments), 2)
    assert turn.output() == [Call("f", json.loads(arguments))]


@pytest.mark.parametrize("mark", ["<tool_call>", "</arg_value>", "</tool_call>", "<think>", "<>", SENTINEL])
def test_spelled_marks_are_text(glm45, mark):
    """A subject that reads like the end of the call must reach the tool, not end the call."""
    head = "<tool_call>create_ticket\n<arg_key>user_id</arg_key>\n<arg_value>U1</arg_value>\n<arg_key>subject"
    ids = marked(glm45, f"\n{head}</arg_key>\n<arg_value>")
    ids += glm45.encode(f"a {mark}{mark} b") + marked(glm45, "</arg_value>\n</tool_call>")
    turn, _ = spoken(glm45, ids, 3)
    assert turn.output([TICKET]) == [Call("create_ticket", {"user_id": "U1", "subject": f"a {mark}{mark} b"})]
    turn, seen = spoken(glm45, glm45.encode(f"\nNo {mark} here"), 1)
    assert turn.output() == Answer(f"No {mark} here")
    assert seen[-1] == f"No {mark} here"


def test_a_character_cut_off_shows_as_broken_at_the_end_only(glm4):
    turn, seen = spoken(glm4, glm4.encode("\n你")[:-1], 1)
    assert seen[-1] == ""
    assert turn.output() == Answer("�")
