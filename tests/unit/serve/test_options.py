"""Options: probabilities of given continuations, whatever they share and whatever runs beside them."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import InvalidPrompt, PromptTooLong
from engines.serve.costs import StepCosts
from engines.serve.engine import Engine
from engines.serve.options import OptionTree, log_softmax
from engines.serve.prompt import Prompt
from engines.serve.stepper import Stepper
from tests.unit.serve.fake_runtime import MASK, FakeRuntime

WAIT = 20
END = 3


def expected(runtime, prompt, options):
    """Token by token: at each place, the model's choice among the tokens that some option has there."""
    result = []
    for option in options:
        total = 0.0
        for at, token in enumerate(option):
            choices = sorted({o[at] for o in options if list(o[:at]) == list(option[:at])})
            cell = 0
            for known in [*prompt, *option[:at]]:
                cell = (cell * 1_000_003 + known * 7919 + 12345) % MASK
            total += log_softmax(runtime.logits_of(cell)[choices])[choices.index(token)]
        result.append(total)
    return result


def options_of(rng):
    several = {
        (*(rng.randrange(4, 7) for _ in range(rng.randint(1, 4))), END) for _ in range(rng.randint(1, 9))
    }
    return sorted(several)


@given(seed=st.integers(0, 2**32), chunk=st.sampled_from([1, 3, 1024]), stall=st.sampled_from([1e-9, 0.1]))
@settings(max_examples=30, deadline=None)
def test_probabilities_are_those_of_teacher_forcing_in_any_company(seed, chunk, stall):
    rng = random.Random(seed)
    runtime = FakeRuntime(slots=4, capacity=64)
    engine = Engine(runtime, rows=rng.randint(1, 4), eos_token_ids=[END], costs=StepCosts(stall, chunk))
    engine.start()
    try:
        waiting = []
        stem = [rng.randrange(97) for _ in range(20)]
        for _ in range(rng.randint(1, 10)):
            prompt = [*stem[: rng.randint(1, 20)], rng.randrange(97)]
            options = options_of(rng) if rng.random() < 0.7 else None
            tree = options and OptionTree(options)
            waiting.append((prompt, options, engine.submit(Prompt(prompt, 8, options=tree))))
        for prompt, options, generation in waiting:
            completion = generation.wait(WAIT)
            if options is None:
                assert completion.token_ids == runtime.greedy(prompt, 8, [END])
                continue
            assert completion.token_ids == [] and completion.finish_reason == "stop"
            np.testing.assert_allclose(completion.logprobs, expected(runtime, prompt, options), atol=1e-9)
            assert math.isclose(sum(map(math.exp, completion.logprobs)), 1, abs_tol=1e-9)
    finally:
        engine.close()
        engine._stepper.scheduler.check()


def test_options_that_part_at_once_cost_one_prefill(start):
    engine = start()
    tree = OptionTree([[9, 4, 5, END], [9, 6, 7, 8, END], [9, 7, END]])
    assert tree.prefix == (9,) and tree.depth == 0
    engine.submit(Prompt(list(range(20)), 1, options=tree)).wait(WAIT)
    stats = engine.stats()
    assert (stats.prefills, stats.decode_steps, stats.tokens_prefilled) == (1, 0, 21)


def test_a_single_option_is_certain(start):
    assert start().submit(Prompt([1], 1, options=OptionTree([[5, END]]))).wait(WAIT).logprobs == (0.0,)


def test_what_ends_on_the_way_to_a_fork_has_no_answer():
    ended = []
    stepper = Stepper(FakeRuntime(slots=1), 1, StepCosts(), ended.append)
    options = OptionTree([[4, 5, 6, END], [4, 5, 7, END], [8, END]])
    row = Engine(FakeRuntime())._row(Prompt([1, 2], 1, options=options))
    stepper.add(row)
    stepper.step()
    assert row.known == [1, 2, 4, 5] and not ended
    stepper.end(row, "expired")
    completion = row.generation.wait(WAIT)
    assert (completion.token_ids, completion.completion_tokens) == ([], 0)


@pytest.mark.parametrize("options", [[[]], [[4], [4]], [[4], [4, 5]], [[4, 5], [4]], [[], [4]]])
def test_ambiguous_options_are_refused(options):
    with pytest.raises(InvalidPrompt):
        OptionTree(options)


def test_options_must_fit_the_model_and_the_slot(start):
    engine = start(FakeRuntime(slots=2, capacity=16))
    with pytest.raises(InvalidPrompt):
        engine.submit(Prompt([1], 1, options=OptionTree([[97], [5]])))
    deep = OptionTree([[4, 5, 6, 7], [4, 5, 6, 8, 9], [4, 5, 6, 8, 10]])
    engine.submit(Prompt([1] * 11, 1, options=deep)).wait(WAIT)
    with pytest.raises(PromptTooLong, match=r"12 tokens and its options need 4 more, .* 15 in all"):
        engine.submit(Prompt([1] * 12, 1, options=deep))
