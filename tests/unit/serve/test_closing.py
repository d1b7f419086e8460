"""Answers that run out of tokens are completed, where that is possible."""

import json
import re

import jsonschema
import pytest

from engines.serve.engine import Engine
from engines.serve.grammar import Grammar
from engines.serve.masks import GrammarCompiler
from engines.serve.prompt import Prompt, Sampling
from tests.unit.serve.fake_runtime import FakeRuntime
from tests.unit.serve.small_tokenizer import SPECIALS, small_tokenizer

WAIT, EOS = 60, [1, 2, 3]
ENDLESS = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 2},
        "tree": {"$ref": "#/$defs/node"},
        "ids": {"type": "array", "items": {"type": "integer"}, "minItems": 2},
        "on": {"type": "string", "format": "date"},
    },
    "required": ["name", "tree", "ids", "on"],
    "additionalProperties": False,
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"text": {"type": "string"}, "next": {"$ref": "#/$defs/node"}},
            "required": ["text"],
        }
    },
}


@pytest.fixture(scope="module")
def answer():
    """answer(grammar, seed, max_tokens) → (text, finish_reason) of a model that would go on and on."""
    compiler = GrammarCompiler.over(small_tokenizer(), 256, EOS)
    engine = Engine(FakeRuntime(slots=4, capacity=512, vocab_size=256), eos_token_ids=EOS, compiler=compiler)
    engine.start()

    def answer_(grammar, seed, max_tokens):
        sampling = Sampling(temperature=1.0, seed=seed)
        completion = engine.submit(Prompt([seed + 5], max_tokens, sampling, grammar=grammar)).wait(WAIT)
        assert completion.completion_tokens <= max_tokens
        text = b"".join(map(compiler.bytes_of, completion.token_ids)).decode(errors="replace")
        assert not any(special in text for special in SPECIALS)
        return text, completion.finish_reason

    yield answer_
    engine.close()


@pytest.mark.parametrize("max_tokens", [100, 150, 300])
def test_json_is_complete_at_the_limit(answer, max_tokens):
    reasons = set()
    for seed in range(8):
        text, reason = answer(Grammar.json_schema(ENDLESS), seed, max_tokens)
        jsonschema.validate(json.loads(text), ENDLESS)
        reasons.add(reason)
    assert "length" in reasons


def test_what_cannot_be_completed_is_cut(answer):
    text, reason = answer(Grammar.json_schema(ENDLESS), 0, 10)
    assert reason == "length" and text
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)


def test_a_regex_is_matched_at_the_limit(answer):
    for seed in range(4):
        text, _ = answer(Grammar.regex("([a-z]{3}-)+[0-9]{2}"), seed, 40)
        assert re.fullmatch("([a-z]{3}-)+[0-9]{2}", text), text


def test_an_answer_that_may_end_before_its_limit_is_cut_there(answer):
    """Where the shortest way out is nothing at all, nothing is what follows."""
    pattern = "[0-9]{2}(,[0-9]{3})*"
    for seed in range(30):
        text, _ = answer(Grammar.regex(pattern), seed, 5)
        assert re.fullmatch(pattern, text), text


LONG = "perhaps, but only under quite exceptional circumstances"
VERDICT = {
    "type": "object",
    "properties": {"verdict": {"enum": ["no", LONG]}},
    "required": ["verdict"],
    "additionalProperties": False,
}


def test_what_is_forced_beyond_the_limit_gives_way_to_what_fits(answer):
    found = set()
    for seed in range(12):
        text, _ = answer(Grammar.json_schema(VERDICT), seed, 24)
        found.add(json.loads(text)["verdict"])
        text, _ = answer(Grammar.choice(["no", LONG]), seed, 8)
        found.add(text)
    assert found == {"no"}
