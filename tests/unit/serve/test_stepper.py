"""Steps that are asked for before the last one's tokens are read give the tokens of steps that wait."""

import random
from collections import deque

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engines.serve.closing import Closing
from engines.serve.costs import StepCosts
from engines.serve.engine import Engine
from engines.serve.generation import Generation
from engines.serve.grammar import Grammar
from engines.serve.history import History
from engines.serve.masks import GrammarCompiler
from engines.serve.options import OptionTree
from engines.serve.prompt import Prompt, Sampling
from engines.serve.row import Row
from engines.serve.stepper import Stepper
from tests.unit.serve.deferred_runtime import DeferredRuntime
from tests.unit.serve.fake_runtime import FakeRuntime
from tests.unit.serve.small_tokenizer import small_tokenizer

VOCABULARY, STOPS = 256, [3, 50, 60]
GRAMMARS = [
    Grammar.choice(["low", "lower", "user", "us"]),
    Grammar.regex("[a-z]{1,12}( [0-9]+)?"),
    Grammar.json_schema(
        {
            "type": "object",
            "properties": {"user": {"type": "string", "maxLength": 6}, "id": {"type": "integer"}},
            "required": ["user", "id"],
            "additionalProperties": False,
        }
    ),
]


@pytest.fixture(scope="module")
def compiler():
    return GrammarCompiler.over(small_tokenizer(), VOCABULARY, [1, 2, 3])


def random_prompt(rng, stems):
    ids = [*rng.choice(stems), *(rng.randrange(VOCABULARY) for _ in range(rng.randrange(9)))]
    sampling = Sampling()
    if rng.random() < 0.5:
        sampling = Sampling(
            rng.choice([0.3, 1.0]),
            top_k=rng.choice([0, 5]),
            top_p=rng.choice([1.0, 0.9]),
            repetition_penalty=rng.choice([1.0, 1.3]),
            seed=rng.randrange(2**64),
        )
    grammar = rng.choice(GRAMMARS) if rng.random() < 0.4 else None
    options = None
    if grammar is None and rng.random() < 0.2:
        some = {
            (*(rng.randrange(4, 7) for _ in range(rng.randint(1, 4))), 3) for _ in range(rng.randint(1, 5))
        }
        options = OptionTree(sorted(some))
    return Prompt(
        ids,
        rng.choice([1, 2, 7, 30]),
        sampling,
        grammar,
        stop_token_ids=STOPS if rng.random() < 0.7 else None,
        priority=rng.randrange(2),
        options=options,
    )


def run(runtime, prompts, compiler, *, rows, chunk, arrivals, cancelled):
    """Outcomes in order, and counters. arrivals: the steps they come before; cancelled: number to step."""
    left = []
    closing = Closing(compiler.bytes_of, VOCABULARY)
    stepper = Stepper(runtime, rows, StepCosts(chunk=chunk), left.append, closing)
    everyone = [
        Row(
            number=number,
            prompt=prompt,
            limit=min(prompt.max_tokens, runtime.capacity - len(prompt.token_ids)),
            stops=frozenset(prompt.stop_token_ids or ()),
            seed=prompt.sampling.seed or 0,
            submitted=float(number),
            generation=Generation(lambda _: None),
            grammar=compiler.compile(prompt.grammar) if prompt.grammar else None,
            history=History(VOCABULARY) if prompt.sampling.repetition_penalty != 1 else None,
        )
        for number, prompt in enumerate(prompts)
    ]
    waiting, step = deque(everyone), 0
    while waiting or stepper.scheduler.busy:
        while waiting and arrivals[waiting[0].number] <= step:
            stepper.add(waiting.popleft())
        for row in everyone:
            if cancelled.get(row.number, 10**9) <= step and row not in waiting and not row.generation.done:
                stepper.end(row, "cancelled")
        before = [list(row.known) for row in everyone]
        stepper.step()
        stepper.table.check()
        for row in stepper.scheduler.rows:
            assert stepper.scheduler.backlog(row) >= 1
            held = stepper.table.tokens[row.slot, : stepper.scheduler.computed(row)]
            assert held.tolist() == row.known[: len(held)]
        for row, known in zip(everyone, before, strict=True):
            assert row.prompt.options or row.known[: len(known)] == known, "a token was taken back"
        step += 1
        assert step < 5000, "no progress"
    assert stepper.table.active == 0 and len(left) == len(everyone)
    return [row.generation.wait(0) for row in everyone], stepper.counters


@given(
    seed=st.integers(0, 2**32),
    slots=st.integers(1, 6),
    chunk=st.sampled_from([1, 3, 1024]),
    cancelling=st.booleans(),
)
@example(seed=1526987, slots=1, chunk=1024, cancelling=True)  # all rows end before their draws are read
@settings(max_examples=60, deadline=None)
def test_any_traffic_gets_the_tokens_of_steps_that_wait(compiler, seed, slots, chunk, cancelling):
    rng = random.Random(seed)
    stems = [[rng.randrange(VOCABULARY) for _ in range(rng.randrange(1, 20))] for _ in range(3)]
    prompts = [random_prompt(rng, stems) for _ in range(rng.randint(1, 12))]
    how = {
        "rows": rng.randint(1, slots),
        "chunk": chunk,
        "arrivals": np.cumsum([rng.choice([0, 0, 1, 5]) for _ in prompts]).tolist(),
        "cancelled": {i: rng.randrange(40) for i in range(len(prompts)) if cancelling and rng.random() < 0.4},
    }
    deferred = DeferredRuntime(FakeRuntime(slots, 64, VOCABULARY))
    ahead, counters = run(deferred, prompts, compiler, **how)
    waited, _ = run(FakeRuntime(slots, 64, VOCABULARY), prompts, compiler, **how)
    for number, (one, other) in enumerate(zip(ahead, waited, strict=True)):
        if "cancelled" in (one.finish_reason, other.finish_reason):
            assert number in how["cancelled"]
            shorter, longer = sorted((one.token_ids, other.token_ids), key=len)
            assert longer[: len(shorter)] == shorter
            continue
        assert one.token_ids == other.token_ids
        assert (one.finish_reason, one.stop_token_id) == (other.finish_reason, other.stop_token_id)
        assert one.forced_tokens == other.forced_tokens
        assert one.logprobs == other.logprobs
    assert deferred.most_unread <= 2, "more frames than the GPU runtime has"
    assert counters.failed == 0


def test_a_step_is_asked_for_before_the_last_ones_tokens_are_read(compiler):
    """All but the first are; and nothing is computed beyond the tokens that an answer may have."""
    deferred = DeferredRuntime(FakeRuntime(2, 64, VOCABULARY))
    prompts = [Prompt([5, 6], 20), Prompt([7], 20, Sampling(1.0, seed=1), GRAMMARS[1])]
    how = {"rows": 2, "chunk": 1024, "arrivals": [0, 0], "cancelled": {}}
    answers, counters = run(deferred, prompts, compiler, **how)
    assert len(answers[0].token_ids) == 20
    assert deferred.overlapped == counters.decode_steps == 19
    assert run(deferred, [Prompt([9, 8], 1)], compiler, **how)[1].decode_steps == 0


def test_an_answer_that_stops_costs_one_row_of_one_step(compiler):
    runtime = FakeRuntime(1, 64, VOCABULARY)
    answer = runtime.greedy([5, 6], 20)
    stop = next(token for at, token in enumerate(answer) if at >= 4 and token not in answer[:at])
    prompt = Prompt([5, 6], 20, stop_token_ids=[stop])
    how = {"rows": 1, "chunk": 1024, "arrivals": [0], "cancelled": {}}
    waited, before = run(runtime, [prompt], compiler, **how)
    ahead, after = run(DeferredRuntime(FakeRuntime(1, 64, VOCABULARY)), [prompt], compiler, **how)
    assert waited[0].token_ids == ahead[0].token_ids == answer[: answer.index(stop)]
    assert after.decode_steps == before.decode_steps + 1


def test_draws_that_nobody_waits_for_are_not_taken_for_long_steps(compiler, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("engines.serve.meter.time.perf_counter", lambda: now[0])
    costs = StepCosts()
    stepper = Stepper(DeferredRuntime(FakeRuntime(2, 64, VOCABULARY)), 2, costs, lambda _: None)

    def row(number):
        return Row(number, Prompt([number + 5, 6], 9), 9, frozenset(), 0, 0.0, Generation(lambda _: None))

    first = row(0)
    stepper.add(first)
    stepper.step()
    stepper.end(first, "cancelled")
    now[0] += 3600
    stepper.add(row(1))
    while stepper.scheduler.busy:
        stepper.step()
        now[0] += 1e-3
    assert stepper.counters.decode_seconds < 1


@pytest.mark.parametrize("chunk", [3, 1024])
def test_real_graphs_answer_the_same_ahead_of_their_tokens(golden, open_ort, start, chunk):
    """The reference's greedy tokens, and seeded draws equal to those of steps that wait."""
    case, picks = golden["glm"], [Sampling(), Sampling(0.8, top_k=30, top_p=0.95, seed=3)]
    answers = []
    for deferred in (False, True):
        runtime = open_ort("glm", slots=7)
        engine = start(
            DeferredRuntime(runtime) if deferred else runtime, rows=6, costs=StepCosts(chunk=chunk)
        )
        assert isinstance(engine, Engine)
        waiting = [
            engine.submit(Prompt(prompt, 24, pick, ignore_eos=True))
            for pick in picks
            for prompt in case["prompts"]
        ]
        answers.append([generation.wait(60).token_ids for generation in waiting])
    for row, sure in enumerate(case["sure"]):
        assert answers[1][row][:sure] == case["generated"][row, :sure].tolist()
    assert answers[0] == answers[1]
