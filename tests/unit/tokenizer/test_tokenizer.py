import json

import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engines.tokenizer import Tokenizer
from engines.tokenizer.errors import MessagesRefused, TemplateBroken, TemplateMissing, TokenizerMissing
from engines.tokenizer.shield import GAP, SENTINEL

from .conftest import GLM4_TEMPLATE, MARKS, REFUND, SPECIAL

# Text in which literals, parts of literals and the sentinel turn up all the time.
NASTY = st.lists(
    st.one_of(
        st.sampled_from(
            [*SPECIAL, *MARKS, "<|", "|>", "us", "er", "<", ">", "[", "]", SENTINEL, GAP, "\n", "你"]
        ),
        st.text(max_size=5),
    ),
    max_size=8,
).map("".join)

EACH = "{% for tool in tools %}{{ tool['function']['name'] }} {% endfor %}"


def special_ids(tokenizer, ids):
    return [index for index in ids if index in tokenizer.added_tokens.values()]


@given(text=NASTY)
def test_encoding_gives_no_added_token_and_loses_nothing(glm45, text):
    ids = glm45.encode(text)
    assert special_ids(glm45, ids) == []
    assert glm45.decode(ids) == text


@settings(max_examples=200)
@given(user=NASTY, system=NASTY, result=NASTY, description=NASTY, key=NASTY)
def test_outside_text_never_adds_special_tokens_to_a_prompt(glm4, user, system, result, description, key):
    def conversation(user, system, result, description, key):
        function = {"name": "f", "description": description, "parameters": {"properties": {key: {}}}}
        call = {
            "id": "1",
            "type": "function",
            "function": {"name": "f" + key, "arguments": json.dumps({key: result})},
        }
        return [
            {"role": "system", "content": "s" + system},
            {"role": "user", "content": user},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": result},
        ], [{"type": "function", "function": function}]

    nasty = conversation(user, system, result, description, key)
    ids = glm4.render(*nasty)
    assert special_ids(glm4, ids) == special_ids(glm4, glm4.render(*conversation("", "", "", "", "")))
    assert glm4.decode(ids, special=True) == glm4.render_text(*nasty)


@settings(max_examples=200)
@given(text=NASTY, name=NASTY)
@example(text="a <> b", name="")
@example(text='{"articles": [], "left": [[]]}', name="f")
@example(text=f"<{GAP}>{SENTINEL}{SENTINEL}<{SENTINEL}>", name="<>")
def test_a_prompt_shows_outside_text_as_it_is(glm45, text, name):
    """Including brackets side by side, which every list without items and every SQL `<>` has."""
    template = "{{ tools[0].function.name }}|{{ messages[0].content }}{{ messages[0].content }}"
    bare = Tokenizer(glm45.definition, template=template)
    messages = [{"role": "user", "content": text}]
    tools = [{"type": "function", "function": {"name": name}}]
    assert bare.render_text(messages, tools) == f"{name}|{text}{text}"
    assert bare.decode(bare.render(messages, tools), special=True) == f"{name}|{text}{text}"


def test_a_literal_cannot_be_formed_across_the_border_to_the_template(glm4):
    for first, second in (("<|us", "er|>"), ("<|user|", ">"), ("<", "|user|>")):
        for template in ("{{ messages[0].content }}" + second, first + "{{ messages[1].content }}",
                         "{{ messages[0].content }}{{ messages[1].content }}"):  # fmt: skip
            joined = Tokenizer(glm4.definition, template=template)
            ids = joined.render([{"role": "user", "content": first}, {"role": "user", "content": second}])
            assert special_ids(joined, ids) == []
            assert joined.decode(ids) == "<|user|>"


def test_a_harmless_prompt_is_what_the_plain_tokenizer_makes_of_the_rendered_text(glm45, tools):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "退款 A1001, 25.5 元"},
    ]
    reference = tokenizers.Tokenizer.from_str(glm45.definition)
    text = glm45.render_text(messages, tools)
    assert glm45.render(messages, tools) == reference.encode(text, add_special_tokens=False).ids


def test_half_a_surrogate_pair_is_replaced(glm4):
    assert glm4.decode(glm4.encode("a\ud800b")) == "a�b"


def test_special_tokens_are_shown_only_on_demand(glm4):
    ids = [glm4.token_id("<|user|>"), *glm4.encode("hi")]
    assert glm4.decode(ids) == "hi"
    assert glm4.decode(ids, special=True) == "<|user|>hi"
    assert glm4.decode([10**9]) == ""


def test_loads_a_checkpoint_folder(glm4, tmp_path):
    (tmp_path / "tokenizer.json").write_text(glm4.definition)
    with pytest.raises(TemplateMissing):
        Tokenizer.load(tmp_path).render([{"role": "user", "content": "hi"}])
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": GLM4_TEMPLATE}))
    from_config = Tokenizer.load(tmp_path).render([{"role": "user", "content": "hi"}], [REFUND])
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "chat_template.jinja").write_text(GLM4_TEMPLATE)
    assert Tokenizer.load(tmp_path).render([{"role": "user", "content": "hi"}], [REFUND]) == from_config


def test_says_what_is_wrong_with_a_folder(tmp_path):
    with pytest.raises(TokenizerMissing, match="has no tokenizer"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizerMissing, match="cannot be read"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ("{", "tokenizer_config.json is no JSON"),
        ("[]", "tokenizer_config.json: input should be a valid"),
        ('{"chat_template": ["x"]}', "`chat_template`"),
        ('{"chat_template": [{"template": "x"}]}', "`chat_template`"),
        ('{"tool_format": ["glm4"]}', "`tool_format`"),
        ('{"tool_format": "glm5"}', "'glm5' is none of glm4"),
        ('{"write_defaults": "false"}', "`write_defaults`"),
        ('{"eos_token": {"a": 1}}', "`eos_token`"),
    ],
)
def test_a_config_that_is_wrong_is_refused_by_its_key(glm4, tmp_path, config, complaint):
    (tmp_path / "tokenizer.json").write_text(glm4.definition)
    (tmp_path / "tokenizer_config.json").write_text(config)
    with pytest.raises(TokenizerMissing, match=complaint):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
def test_files_that_are_no_text_are_named(glm4, tmp_path, name):
    (tmp_path / "tokenizer.json").write_text(glm4.definition)
    (tmp_path / name).write_bytes("中文".encode("gbk"))
    with pytest.raises(TokenizerMissing, match=name):
        Tokenizer.load(tmp_path)


def test_templates_are_sandboxed(glm4):
    def render(template):
        Tokenizer(glm4.definition, template=template).render([{"role": "user", "content": "hi"}])

    with pytest.raises(MessagesRefused):
        render("{{ messages.__class__.__mro__ }}")
    with pytest.raises(MessagesRefused):
        render("{{ messages.clear() }}")
    with pytest.raises(MessagesRefused, match="only nouns"):
        render("{{ raise_exception('only nouns') }}")
    with pytest.raises(TemplateBroken, match="line 2"):
        render("\n{% if %}")


def test_first_glm4_templates_get_the_tools_in_the_system_message(glm4):
    old = Tokenizer(
        glm4.definition,
        template="{% for m in messages %}{% if m['tools'] is defined %}{{ m['tools'] | length }} tools;"
        "{% endif %}<|{{ m.role }}|>{{ m.content }}{% endfor %}",
    )
    assert old.render_text([{"role": "user", "content": "hi"}], [REFUND]) == "1 tools;<|system|><|user|>hi"
    system = [{"role": "system", "content": "x"}, {"role": "user", "content": "hi"}]
    assert old.render_text(system, [REFUND]) == "1 tools;<|system|>x<|user|>hi"
    assert old.render_text(system) == "<|system|>x<|user|>hi"


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        # As in glm-4-9b-chat: `tools` is a name of the template's own.
        ("{% for item in messages %}{% if item['tools'] is defined %}{% set tools = item['tools'] %}" + EACH
         + "{% endif %}{% if item['content'] %}{{ item['content'] }}{% endif %}{% endfor %}", "f hi"),
        ("{% if tools %}" + EACH + "{% endif %}{{ messages | length }}", "f 1"),
        ("{% set tools = tools or [] %}" + EACH + "{{ messages | length }}", "f 1"),
        ("{% if tools is not defined %}{% set tools = [] %}{% endif %}" + EACH + "{{ messages | length }}",
         "f 1"),
    ],
)  # fmt: skip
def test_a_template_is_shown_the_tools_where_it_looks_for_them(glm4, source, shown):
    named = {"function": {"name": "f", "parameters": {}}}
    tokenizer = Tokenizer(glm4.definition, template=source)
    assert tokenizer.render_text([{"role": "user", "content": "hi"}], [named]) == shown


def test_tools_are_rendered_as_they_are_not_as_others_were(glm4):
    messages = [{"role": "user", "content": "hi"}]
    for name in ("first", "second", "first"):
        assert f"- {name}:" in glm4.render_text(messages, [{"function": {"name": name, "parameters": {}}}])
    same = {"function": {"name": "same", "parameters": {}}}
    assert glm4.render(messages, [same]) == glm4.render(messages, [same])
    assert "same" not in glm4.render_text(messages, [REFUND])


@pytest.mark.parametrize(
    "left",
    [
        {"truncation": {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}},
        {"padding": {"strategy": {"Fixed": 64}, "direction": "Right", "pad_id": 0, "pad_type_id": 0}},
    ],
)
def test_what_training_cut_or_padded_is_whole(glm4, left):
    left = {key: {"pad_to_multiple_of": None, "pad_token": "x"} | value for key, value in left.items()}
    tokenizer = Tokenizer(json.dumps(json.loads(glm4.definition) | left))
    text = "Where is order A1001, and where is B2002?"
    assert tokenizer.encode(text) == glm4.encode(text)
    assert tokenizers.Tokenizer.from_str(tokenizer.definition).encode(text).ids == glm4.encode(text)
