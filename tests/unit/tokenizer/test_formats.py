"""Each format's grammar, run by llguidance over a real vocabulary."""

import json
import random
import sys
from functools import lru_cache

import jsonschema
import llguidance
import llguidance.numpy
import numpy as np
import pytest

from engines.tokenizer import Answer, Call, Shape
from engines.tokenizer.config import TokenizerConfig
from engines.tokenizer.errors import ToolSchemaRefused
from engines.tokenizer.formats import choose
from engines.tokenizer.formats.arguments import argument_schema

from .conftest import TICKET, tool

FORMATS = ["glm4", "glm45", "glm47", "chatglm3"]
REFUND_CALL = Call("refund_order", {"order_id": 'A<1> "x"\n订单', "amount": 25.5})
TICKET_CALL = Call("create_ticket", {"user_id": "U1", "subject": "a/b", "priority": "high"})
WRITTEN = {
    "glm4": 'create_ticket\n{"user_id": "U1", "subject": "a/b", "priority": "high"}',
    "glm45": "\n<tool_call>create_ticket\n<arg_key>user_id</arg_key>\n<arg_value>U1</arg_value>\n"
    "<arg_key>subject</arg_key>\n<arg_value>a/b</arg_value>\n"
    "<arg_key>priority</arg_key>\n<arg_value>high</arg_value>\n</tool_call>",
    "glm47": "<tool_call>create_ticket<arg_key>user_id</arg_key><arg_value>U1</arg_value>"
    "<arg_key>subject</arg_key><arg_value>a/b</arg_value>"
    "<arg_key>priority</arg_key><arg_value>high</arg_value></tool_call>",
    "chatglm3": 'create_ticket\n```python\ntool_call(user_id="U1", subject="a/b", priority="high")\n```',
}


@pytest.fixture(params=FORMATS)
def tokenizer(request):
    return request.getfixturevalue(request.param)


def marked(tokenizer, text):
    """Ids of a turn as the model writes it: the format's marks as tokens, special tokens as such."""
    import tokenizers

    return tokenizers.Tokenizer.from_str(tokenizer.definition).encode(text, add_special_tokens=False).ids


@lru_cache
def vocabulary(definition, eos):
    return llguidance.LLTokenizer(definition, eos_token=eos and list(eos))


def matcher(tokenizer, grammar, eos=None):
    built = llguidance.LLMatcher(vocabulary(tokenizer.definition, eos), grammar, log_level=0)
    assert not built.is_error(), built.get_error()
    return built


def accepts(tokenizer, grammar, text):
    built = matcher(tokenizer, grammar)
    return (
        all(map(built.consume_token, marked(tokenizer, text))) and built.is_stopped() and built.is_accepting()
    )


def allowed(built, tokenizer):
    mask = llguidance.numpy.allocate_token_bitmask(1, tokenizer.vocab_size)
    llguidance.numpy.fill_next_token_bitmask(built, mask, 0)
    bits = np.unpackbits(mask.view(np.uint8), bitorder="little")[: tokenizer.vocab_size]
    return np.flatnonzero(bits).tolist()


def wander(tokenizer, grammar, seed):
    """A model with random weights: any allowed token, with a liking for ends so that strings end."""
    built, ids, chooser = matcher(tokenizer, grammar), [], random.Random(seed)
    ends = {tokenizer.token_id(end) for end in ("<|user|>", "<|endoftext|>", "<|observation|>")}
    while not built.is_stopped():
        options = allowed(built, tokenizer)
        closing = [
            index
            for index in options
            if index in tokenizer.special_ids or tokenizer.bytes_of(index)[:1] in b'"}<'
        ]
        index = chooser.choice(closing if closing and chooser.random() < 0.4 else options)
        assert built.consume_token(index)
        ids.append(index)
        assert len(ids) < 2000
    assert ids[-1] in ends
    return ids[:-1], tokenizer.decode(ids[-1:], special=True)


def test_choice_of_format(glm4, glm45, glm47, chatglm3):
    assert [t.format.name for t in (glm4, glm45, glm47, chatglm3)] == FORMATS
    assert choose(TokenizerConfig(), {"sop": 1, "eop": 2}, None).name == "chatglm3"
    assert choose(TokenizerConfig(), {"<arg_key>": 1}, None).name == "glm45"
    assert choose(TokenizerConfig(), {}, None).name == "glm4"


def test_answers_and_calls_end_with_their_own_token(tokenizer, tools):
    grammar = tokenizer.format.grammar(tools)
    call = WRITTEN[tokenizer.format.name]
    assert accepts(tokenizer, grammar, call + "<|observation|>")
    assert not accepts(tokenizer, grammar, call + "<|user|>")
    for end in ("<|user|>", "<|endoftext|>"):
        assert accepts(tokenizer, grammar, "\nHello {there}\n" + end)
    assert not accepts(tokenizer, grammar, "\nHello<|observation|>")


def test_no_end_is_offered_before_the_output_is_complete(tokenizer, tools):
    built = matcher(tokenizer, tokenizer.format.grammar(tools, "required"))
    ids = marked(tokenizer, WRITTEN[tokenizer.format.name])
    for index in ids:
        assert not tokenizer.special_ids & set(allowed(built, tokenizer))
        assert built.consume_token(index)
    assert allowed(built, tokenizer) == [tokenizer.token_id("<|observation|>")]


def test_ends_do_not_depend_on_what_llguidance_takes_for_eos(glm4, tools):
    endoftext, user, observation = map(glm4.token_id, ("<|endoftext|>", "<|user|>", "<|observation|>"))
    for eos in ((endoftext,), (endoftext, user, observation), (glm4.token_id("<eop>"),)):
        for text, ends in (("\nHi", {endoftext, user}), (WRITTEN["glm4"], {observation})):
            for end in ends:
                built = matcher(glm4, glm4.format.grammar(tools), eos)
                assert built.consume_tokens(marked(glm4, text))
                assert glm4.special_ids & set(allowed(built, glm4)) == ends
                assert built.consume_token(end) and built.is_stopped() and built.is_accepting()


def test_choice_limits_what_may_follow(tokenizer, tools):
    grammar, call = tokenizer.format.grammar, WRITTEN[tokenizer.format.name] + "<|observation|>"
    answer = "\nHello<|user|>"
    assert accepts(tokenizer, grammar(tools, "none"), answer)
    assert not accepts(tokenizer, grammar(tools, "none"), call) or "<" in call[:2]
    assert accepts(tokenizer, grammar(tools, "required"), call)
    assert not accepts(tokenizer, grammar(tools, "required"), answer)
    assert accepts(tokenizer, grammar(tools, "create_ticket"), call)
    assert not accepts(tokenizer, grammar(tools, "refund_order"), call)
    with pytest.raises(KeyError):
        grammar(tools, "no_such_tool")


def test_optional_properties_keep_their_place(tokenizer):
    """All subsets of optional properties, in the order of the schema and in no other."""
    optional = tool(
        "f", {"a": {"type": "integer"}, "b": {"type": "integer"}, "c": {"type": "integer"}}, required=["b"]
    )
    grammar = tokenizer.format.grammar([optional], "required")
    for names in ("b", "ab", "bc", "abc"):
        assert accepts(tokenizer, grammar, written(tokenizer, "f", dict.fromkeys(names, 1)))
    for names in ("", "a", "ac", "ba", "cb", "abcd"):
        assert not accepts(tokenizer, grammar, written(tokenizer, "f", dict.fromkeys(names, 1)))


def test_defaults_are_mandatory_for_models_trained_so(glm4):
    eager = choose(TokenizerConfig(write_defaults=True), glm4.added_tokens, None)
    short = 'create_ticket\n{"user_id": "U1", "subject": "x"}<|observation|>'
    long = 'create_ticket\n{"user_id": "U1", "subject": "x", "priority": "low"}<|observation|>'
    assert accepts(glm4, glm4.format.grammar([TICKET]), short)
    assert accepts(glm4, glm4.format.grammar([TICKET]), long)
    assert not accepts(glm4, eager.grammar([TICKET]), short)
    assert accepts(glm4, eager.grammar([TICKET]), long)
    unusable = tool("f", {"a": {"type": "string", "default": None}}, required=[])
    assert accepts(glm4, eager.grammar([unusable]), "f\n{}<|observation|>")


@pytest.mark.parametrize("call", [REFUND_CALL, TICKET_CALL], ids=["refund", "ticket"])
def test_a_rendered_call_is_legal_and_reads_back_the_same(tokenizer, tools, call):
    text = written(tokenizer, call.name, call.arguments)
    assert accepts(tokenizer, tokenizer.format.grammar(tools), text)
    turn = text.removesuffix("<|observation|>")
    assert tokenizer.format.parse(turn, tools) == [call]
    assert tokenizer.format.visible(turn) == ""


@pytest.mark.parametrize("name", ["from", "order-id", "a b", "$top", "9x", "ｎａｍｅ", "é", "a=b", ""])
def test_properties_may_have_any_name(tokenizer, name):
    odd = tool("f", {name: {"type": "integer"}, "z": {"type": "string"}})
    call = Call("f", {name: 5, "z": 'tool_call(a=1), b="=\\n'})
    text = written(tokenizer, call.name, call.arguments)
    assert accepts(tokenizer, tokenizer.format.grammar([odd]), text)
    assert tokenizer.format.parse(text.removesuffix("<|observation|>"), [odd]) == [call]


def test_numbers_beyond_a_double_are_numbers_to_everybody(tokenizer):
    numbers = tool("f", {"a": {"type": "number"}, "b": {"type": "array"}})
    text = written(tokenizer, "f", {"a": 10**400, "b": [[[]], 1e5]}).replace("100000.0", "1e999")
    assert accepts(tokenizer, tokenizer.format.grammar([numbers]), text)
    (call,) = tokenizer.format.parse(text.removesuffix("<|observation|>"), [numbers])
    assert call.arguments == {"a": sys.float_info.max, "b": [[[]], sys.float_info.max]}


def test_random_weights_cannot_write_an_illegal_call(tokenizer, tools):
    grammar = tokenizer.format.grammar(tools, "required")
    for seed in range(10):
        ids, end = wander(tokenizer, grammar, seed)
        assert end == "<|observation|>"
        (call,) = tokenizer.format.parse(tokenizer.decode(ids, special=True), tools)
        schema = next(t["function"]["parameters"] for t in tools if t["function"]["name"] == call.name)
        jsonschema.validate(call.arguments, {**schema, "additionalProperties": False})


def test_calls_in_parallel(tokenizer, tools):
    if tokenizer.format.name == "chatglm3":
        assert tokenizer.format.grammar(tools, parallel=True) == tokenizer.format.grammar(tools)
        return
    one = written(tokenizer, REFUND_CALL.name, REFUND_CALL.arguments).removesuffix("<|observation|>")
    two = written(tokenizer, TICKET_CALL.name, TICKET_CALL.arguments)
    joint = "<|assistant|>" if tokenizer.format.name == "glm4" else ""
    both = one + joint + two
    assert accepts(tokenizer, tokenizer.format.grammar(tools, parallel=True), both)
    assert not accepts(tokenizer, tokenizer.format.grammar(tools), both)
    assert tokenizer.format.parse(both.removesuffix("<|observation|>"), tools) == [REFUND_CALL, TICKET_CALL]


def test_an_answer_may_have_a_shape(tokenizer, tools):
    def legal(shape, text, offered=()):
        grammar = tokenizer.format.grammar(list(offered), answer=shape)
        return accepts(tokenizer, grammar, f"\n{text}<|user|>")

    schema = Shape.json_schema(
        {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    )
    assert legal(schema, '{"a": 1}')
    assert not legal(schema, '{"a": "1"}')
    assert not legal(schema, '{"a":1}')
    choice = Shape.choice(['a "b"', "c/d", "换"])
    assert legal(choice, 'a "b"') and legal(choice, "换", tools) and not legal(choice, "换货")
    pattern = Shape.regex(r"a/b\/[0-9]+\n?" + "\n")
    assert legal(pattern, "a/b/42\n") and not legal(pattern, "a/b/\n")


@pytest.mark.parametrize("text", [" a", "b \n", "\t", "　", "{ }"])
def test_a_shaped_answer_is_read_as_it_was_written(tokenizer, text):
    """Blanks at its edges belong to it, in what is streamed as well."""
    grammar = tokenizer.format.grammar([], "none", answer=Shape.choice([text, "other"]))
    assert accepts(tokenizer, grammar, f"\n{text}<|user|>")
    turn = tokenizer.turn()
    turn.push(marked(tokenizer, f"\n{text}"))
    assert turn.visible == text
    assert turn.output() == Answer(text)


def test_the_end_of_a_shaped_answer_is_forced_where_nothing_else_may_follow(tokenizer):
    def ends(shape, text):
        built = matcher(tokenizer, tokenizer.format.grammar([], "none", answer=shape))
        built.consume_tokens(marked(tokenizer, tokenizer.format.answer_lead + text))
        return set(allowed(built, tokenizer)), built.compute_ff_tokens()

    end = tokenizer.format.answer_end
    for shape, text in (
        (Shape.choice(["refund", "status"]), "refund"),
        (Shape.json_schema({"type": "object", "properties": {}, "additionalProperties": False}), "{}"),
    ):
        assert ends(shape, text) == ({end}, [end])
    for shape, text in (
        (Shape.choice(["refund", "refunds"]), "refund"),
        (Shape.json_schema({"type": "integer"}), "12"),
        (Shape.regex("a+"), "aa"),
    ):
        may_follow, forced = ends(shape, text)
        assert forced == []
        assert may_follow > {tokenizer.added_tokens[e] for e in ("<|user|>", "<|endoftext|>")}


def test_streamed_answers_show_text_and_hide_calls(tokenizer):
    assert tokenizer.format.visible("\nHel") == "Hel"
    assert tokenizer.format.parse("\nHello") == Answer("Hello")
    call = WRITTEN[tokenizer.format.name]
    assert all(
        tokenizer.format.visible(call[:size]).strip() in ("", "<tool_call"[:size].strip()) or "<" in call[:2]
        for size in range(1, len(call))
    )


def test_broken_turns_are_answers(tokenizer):
    for text in (
        'refund_order\n{"order_id": ',
        "Hello",
        "",
        "f\n[1]",
        "f\n```python\ntool_call(1+",
        "<tool_call>f",
    ):
        assert isinstance(tokenizer.format.parse(text), Answer)


def test_thoughts_are_not_part_of_the_answer(glm45):
    assert glm45.format.parse("\n<think>hm</think>\nYes") == Answer("Yes")
    assert glm45.format.visible("\n<think>hm") == ""
    assert glm45.format.visible("\n<think>hm</think>\nYe") == "Ye"


def test_bare_strings_keep_their_limits(glm45):
    limited = tool("f", {"a": {"type": "string", "minLength": 2, "maxLength": 3, "pattern": "^[a-z/]+$"}})
    grammar = glm45.format.grammar([limited], "required")
    legal = [
        text
        for text in ("a", "ab", "a/c", "abcd", "AB")
        if accepts(glm45, grammar, written(glm45, "f", {"a": text}))
    ]
    assert legal == ["ab", "a/c"]


def test_shared_definitions_reach_every_property(tokenizer):
    place = {
        "type": "object",
        "properties": {"x": {"type": "integer"}},
        "required": ["x"],
        "additionalProperties": False,
    }
    shared = tool("f", {"p": {"$ref": "#/$defs/place"}}, **{"$defs": {"place": place}})
    grammar = tokenizer.format.grammar([shared], "required")
    assert accepts(tokenizer, grammar, written(tokenizer, "f", {"p": {"x": 1}}))
    assert not accepts(tokenizer, grammar, written(tokenizer, "f", {"p": {"x": "1"}}))


def test_references_may_go_to_any_place_of_the_parameters(tokenizer):
    """As generators write that name no definitions, and for a tree."""
    tree = tool(
        "f",
        {
            "p~/1": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
            "q": {"$ref": "#/properties/p~0~11"},
            "kids": {"type": "array", "items": {"$ref": "#"}},
        },
        required=["q"],
    )
    grammar = tokenizer.format.grammar([tree], "required")
    for kids, fit in (([{"q": {"x": 2}, "kids": []}], True), ([{"q": {"x": "2"}}], False), ([[]], False)):
        assert accepts(tokenizer, grammar, written(tokenizer, "f", {"q": {"x": 1}, "kids": kids})) is fit
    assert not accepts(tokenizer, grammar, written(tokenizer, "f", {"q": {}}))


def test_parameters_must_be_an_object(tokenizer):
    with pytest.raises(ToolSchemaRefused, match="tool f"):
        tokenizer.format.grammar([{"function": {"name": "f", "parameters": {"type": "array"}}}])


@pytest.mark.parametrize(
    ("property_", "usable"),
    [
        ({"type": ["string", "null"], "default": None}, True),
        ({"type": ["string", "null"], "default": 5}, False),
        ({"type": "string", "default": None}, False),
        ({"type": "integer", "default": True}, False),
        ({"type": "number", "default": 5}, True),
        ({"default": 5}, False),
    ],
)
def test_only_a_default_of_the_propertys_type_is_written(property_, usable):
    schema = argument_schema(tool("f", {"a": property_}, [])["function"], write_defaults=True)
    assert schema["required"] == (["a"] if usable else [])


def written(tokenizer, name, arguments):
    """A call in the manner of the family, ended."""
    style = tokenizer.format.name
    if style == "glm4":
        body = f"{name}\n{json.dumps(arguments, ensure_ascii=False)}"
    elif style == "chatglm3":
        pairs = ", ".join(
            f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in arguments.items()
        )
        body = f"{name}\n```python\ntool_call({pairs})\n```"
    else:
        end = tokenizer.format.line_end
        pairs = "".join(
            f"<arg_key>{key}</arg_key>{end}<arg_value>"
            f"{value if isinstance(value, str) else json.dumps(value)}</arg_value>{end}"
            for key, value in arguments.items()
        )
        body = f"<tool_call>{name}{end}{pairs}</tool_call>"
    return body + "<|observation|>"
