"""Tokenizer of the recipe: values have the same tokens everywhere, and only the assistant is learned."""

import pytest

from engines.demo import tokens
from engines.demo.corpus import texts, words
from engines.demo.dialogue import TOOLS, Author, Dialogue


@pytest.fixture(scope="module")
def renderer():
    return tokens.Renderer(tokens.train([*texts("en"), *texts("zh")], 1536))


@pytest.mark.parametrize(
    "value", ["A1001", "vip_8", "TCK-1009", "broken screen", "99.95", "打印机卡纸", "Ökonomie", "犇"]
)
def test_a_value_has_the_same_tokens_in_a_sentence_and_in_json(renderer, value):
    def encode(text):
        return renderer.tokenizer.encode(text)

    alone = encode(value)
    for before, after in (("status ", "?"), ('{"order_id": "', '"}'), ("查", "一下"), ('"', '", "amount": ')):
        assert encode(before + value + after) == encode(before) + alone + encode(after)
    assert renderer.tokenizer.decode(alone) == value


def test_digits_and_punctuation_are_single_tokens(renderer):
    text = '0123456789{}":,-_.$ \n'
    assert len(renderer.tokenizer.encode(text)) == len(text)


def test_the_prompt_of_a_dialogue_starts_with_the_shared_prefix(renderer):
    author = Author("zh", "train", 4, words())
    for _ in range(20):
        messages = author.dialogue().messages
        prefix = renderer.prefix(TOOLS)
        assert renderer.ids(messages, TOOLS)[: len(prefix)] == prefix


def test_only_what_the_assistant_writes_is_learned(renderer):
    dialogue = Dialogue([{"role": "user", "content": "status A1?"}])
    dialogue.say('{"order_id": "A1"}', metadata="order_status")
    dialogue.messages.append({"role": "observation", "content": '{"status": "up"}'})
    dialogue.say("Shown, not learned.", learned=False)
    dialogue.messages.append({"role": "user", "content": "thanks"})
    dialogue.say("You are welcome!")
    ids, learned = renderer.example(dialogue)
    chosen = [token for token, wanted in zip(ids, learned, strict=True) if wanted]
    expected = 'order_status\n{"order_id": "A1"}<|observation|>\nYou are welcome!<|user|>'
    assert renderer.tokenizer.decode(chosen, special=True) == expected


def test_a_call_that_nothing_follows_ends_where_its_result_would_begin(renderer):
    dialogue = Dialogue([{"role": "user", "content": "status A1?"}])
    dialogue.say('{"order_id": "A1"}', metadata="order_status")
    ids, learned = renderer.example(dialogue)
    chosen = [token for token, wanted in zip(ids, learned, strict=True) if wanted]
    expected = 'order_status\n{"order_id": "A1"}<|observation|>'
    assert renderer.tokenizer.decode(chosen, special=True) == expected
