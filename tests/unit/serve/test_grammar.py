"""Answers under a grammar: they always parse, whatever the model's weights would rather say."""

import json
import re
import threading

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from engines.errors import GrammarError
from engines.serve.engine import Engine
from engines.serve.grammar import Grammar
from engines.serve.masks import GrammarCompiler, GrammarState
from engines.serve.prompt import Prompt, Sampling
from tests.unit.serve.fake_runtime import FakeRuntime
from tests.unit.serve.small_tokenizer import SPECIALS, small_tokenizer

WAIT, EOS = 60, [1, 2, 3]
TOKENIZER = Tokenizer.from_str(small_tokenizer())
CALL = {
    "type": "object",
    "properties": {
        "user_id": {"type": "string", "maxLength": 8},
        "amount": {"type": "integer", "minimum": 0, "maximum": 999},
        "priority": {"enum": ["low", "normal", "high"]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    },
    "required": ["user_id", "amount", "priority", "tags"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def compiler():
    return GrammarCompiler.over(small_tokenizer(), 256, EOS)


def test_a_tokenizer_that_cannot_be_read_is_named():
    with pytest.raises(GrammarError, match=r"tokenizer\.json"):
        GrammarCompiler.over("{}", 256, EOS)


@pytest.fixture(scope="module")
def answer(compiler):
    """answer(grammar, prompt, ...) → Completion and text of a model with random weights."""
    engine = Engine(FakeRuntime(slots=4, capacity=256, vocab_size=256), eos_token_ids=EOS, compiler=compiler)
    engine.start()

    def answer_(grammar, prompt=(7,), max_tokens=200, **options):
        completion = engine.submit(Prompt(list(prompt), max_tokens, grammar=grammar, **options)).wait(WAIT)
        return completion, TOKENIZER.decode(completion.token_ids, skip_special_tokens=False)

    answer_.engine = engine
    yield answer_
    engine.close()
    engine._stepper.scheduler.check()


schemas = st.recursive(
    st.sampled_from(
        [
            {"type": "boolean"},
            {"type": "null"},
            {"type": "integer", "minimum": -5, "maximum": 77},
            {"enum": ["low", "user", 3]},
            {"type": "string", "maxLength": 5},
            {"type": "string", "pattern": "^[a-c]{2}$"},
        ]
    ),
    lambda inner: st.one_of(
        st.builds(lambda item: {"type": "array", "items": item, "maxItems": 3}, inner),
        st.builds(
            lambda parts: {
                "type": "object",
                "properties": parts,
                "required": list(parts),
                "additionalProperties": False,
            },
            st.dictionaries(st.sampled_from(["user", "id", "amount"]), inner, max_size=3),
        ),
        st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner),
    ),
    max_leaves=4,
)


@given(schema=schemas, prompt=st.lists(st.integers(0, 255), min_size=1, max_size=20), hot=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_json_always_fits_its_schema(answer, schema, prompt, hot):
    sampling = Sampling(temperature=1.0, seed=len(prompt)) if hot else Sampling()
    completion, text = answer(Grammar.json_schema(schema), prompt, sampling=sampling)
    assert completion.finish_reason == "stop"
    jsonschema.validate(json.loads(text), schema)


def test_forced_tokens_are_not_decoded_one_by_one(answer):
    before = answer.engine.stats()
    completion, text = answer(Grammar.json_schema(CALL))
    after = answer.engine.stats()
    jsonschema.validate(json.loads(text), CALL)
    assert completion.forced_tokens > 10
    assert after.tokens_forced - before.tokens_forced == completion.forced_tokens
    assert after.decode_steps_saved > before.decode_steps_saved
    assert after.decode_steps - before.decode_steps < completion.completion_tokens


def test_greedy_answers_are_the_best_allowed_tokens(compiler, answer):
    """Against masking every step, however often the best token of all would have done."""
    grammar, runtime = Grammar.json_schema(CALL), FakeRuntime(capacity=256, vocab_size=256)
    for prompt in ([7], [8, 9], [200]):
        state = compiler.compile(grammar)
        bits, expected = np.zeros((1, 8), np.int32), state.follow()
        while not state.complete:
            runtime.prefill(range(1), [np.array(prompt + expected)], np.zeros(1, np.int64))
            state.fill(bits.ctypes.data, bits.nbytes)
            allowed = np.unpackbits(bits.view(np.uint8), bitorder="little").view(bool)
            token = int(np.where(allowed, runtime.logits(range(1))[0], -np.inf).argmax())
            assert state.accept(token)
            expected += [token, *state.follow()]
        assert answer(grammar, prompt)[0].token_ids == expected


def test_forced_tokens_ride_along_when_that_is_cheaper(compiler, start, monkeypatch):
    """Neither way of computing them changes a token."""
    texts = []
    for pays in (True, False):
        runtime = FakeRuntime(slots=3, capacity=256, vocab_size=256)
        engine = start(runtime, eos_token_ids=EOS, compiler=compiler)
        monkeypatch.setattr(engine._stepper.costs, "prefill_pays", lambda *_, answer=pays: answer)
        grammar = Grammar.json_schema(CALL)
        generations = [engine.submit(Prompt([i, 9], 200, grammar=grammar)) for i in range(5)]
        texts.append([generation.wait(WAIT).token_ids for generation in generations])
    assert texts[0] == texts[1]


def test_a_real_graph_with_random_weights_follows_a_schema(compiler, open_ort, start):
    engine = start(open_ort("glm", slots=5), eos_token_ids=EOS, compiler=compiler)
    grammar = Grammar.json_schema(CALL)
    generations = [
        engine.submit(Prompt([i, i + 1], 120, Sampling(temperature=i / 4, seed=i), grammar))
        for i in range(12)
    ]
    for generation in generations:
        text = TOKENIZER.decode(generation.wait(WAIT).token_ids)
        jsonschema.validate(json.loads(text), CALL)


def test_choice_regex_and_lark_are_followed(answer):
    options = ["low", "normal", "high or so"]
    assert answer(Grammar.choice(options))[1] in options
    assert re.fullmatch(r"[a-f]{3}-\d{2}", answer(Grammar.regex(r"[a-f]{3}-[0-9]{2}"))[1])
    lark = 'start: "user" "\\n" args <|observation|>\nargs: %json {"type": "boolean"}'
    completion, text = answer(Grammar.lark(lark))
    assert text in ("user\ntrue", "user\nfalse")
    assert completion.stop_token_id == SPECIALS.index("<|observation|>")
    assert completion.finish_reason == "stop"


def test_an_answer_without_choice_needs_no_model(answer):
    steps = answer.engine.stats().decode_steps + answer.engine.stats().prefills
    completion, text = answer(Grammar.choice(["user"]))
    assert text == "user" and completion.finish_reason == "stop"
    assert completion.forced_tokens == completion.completion_tokens
    assert answer.engine.stats().decode_steps + answer.engine.stats().prefills == steps
    short, _ = answer(Grammar.choice(["a much longer answer"]), max_tokens=4)
    assert short.finish_reason == "length" and short.completion_tokens == 4


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: Grammar.json_schema({"type": "strin"}), "strin"),
        (lambda: Grammar.json_schema({"properties": {"a": {"$ref": "#/nope"}}}), "nope"),
        (lambda: Grammar.json_schema({"type": object}), "JSON schema"),
        (lambda: Grammar.regex("(ab"), "unclosed"),
        (lambda: Grammar.lark("start: foo"), "foo"),
        (lambda: Grammar.choice([]), "choice"),
        (lambda: Grammar.choice(["a", ""]), "choice"),
    ],
)
def test_wrong_grammars_are_refused_by_name(make, part):
    with pytest.raises(GrammarError, match=part):
        make()


def test_a_special_token_the_tokenizer_lacks_fails_only_its_generation(answer):
    with pytest.raises(GrammarError, match="compiled"):
        answer(Grammar.lark('start: "a" <|nobody|>'))
    assert answer(Grammar.choice(["low", "user"]))[1] in ("low", "user")


def test_compiled_grammars_are_kept_and_the_oldest_forgotten(compiler):
    small = GrammarCompiler(compiler._tokenizer, size=2)
    one, two, three = (Grammar.choice([word, "zz"]) for word in "abc")
    for grammar in (one, two):
        small.compile(grammar)
    assert small.ready(one) is not None
    small.compile(three)
    assert small.ready(two) is None
    assert small.ready(Grammar.choice(["a", "zz"])) is not None


def test_states_of_one_grammar_are_independent(compiler):
    grammar = Grammar.choice(["low", "user"])
    first, second = compiler.compile(grammar), compiler.compile(grammar)
    assert all(first.accept(token) for token in TOKENIZER.encode("low").ids)
    assert first.complete and not second.complete
    bits = np.zeros(8, np.int32)
    second.fill(bits.ctypes.data, bits.nbytes)
    assert bits.any()
    assert not second.accept(EOS[0])
    assert second.accept(TOKENIZER.encode("user").ids[0])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_grammar_at_odds_with_itself_fails_only_its_row(start, compiler, monkeypatch, temperature):
    engine = start(FakeRuntime(vocab_size=256), eos_token_ids=EOS, compiler=compiler)
    monkeypatch.setattr(GrammarState, "accept", lambda *_: False)
    sampling = Sampling(temperature)
    odd = engine.submit(Prompt([1], 9, sampling, grammar=Grammar.choice(["low", "user"])))
    even = engine.submit(Prompt([2], 9, sampling, ignore_eos=True))
    with pytest.raises(GrammarError, match="mask"):
        odd.wait(WAIT)
    assert even.wait(WAIT).completion_tokens == 9


async def test_a_slow_grammar_does_not_keep_others_waiting(start, compiler, monkeypatch):
    release = threading.Event()
    slow = GrammarCompiler(compiler._tokenizer)
    real = slow.compile
    monkeypatch.setattr(slow, "compile", lambda grammar: (release.wait(WAIT), real(grammar))[1])
    engine = start(FakeRuntime(vocab_size=256), eos_token_ids=EOS, compiler=slow)
    held = engine.submit(Prompt([1], 9, grammar=Grammar.choice(["low", "user"])))
    gone = engine.submit(Prompt([1], 9, grammar=Grammar.choice(["low", "id"])))
    gone.cancel()
    assert (await engine.submit(Prompt([2], 5, ignore_eos=True)).result()).completion_tokens == 5
    assert (await gone.result()).finish_reason == "cancelled"
    assert not held.done
    release.set()
    assert TOKENIZER.decode((await held.result()).token_ids) in ("low", "user")


def test_a_grammar_may_name_an_end_of_turn_token_that_is_an_eos_token(compiler):
    state = compiler.compile(Grammar.lark("start: /a+/ <[2]>\n"))
    (letter,) = TOKENIZER.encode("a", add_special_tokens=False).ids
    assert not state.accept(2), "nothing was said yet"
    assert state.accept(letter)
    assert not state.accept(3), "another end of turn than the grammar's"
    assert state.accept(2)
    assert state.complete
