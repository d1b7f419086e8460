"""The engine's thread: everything submitted ends, with the right tokens, whatever happens around it."""

import asyncio
import random
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import (
    EngineBusy,
    EngineClosed,
    EngineFailed,
    GenerationFailed,
    GrammarError,
    InvalidPrompt,
    PromptTooLong,
)
from engines.serve.costs import StepCosts
from engines.serve.engine import Engine
from engines.serve.grammar import Grammar
from engines.serve.masks import GrammarCompiler
from engines.serve.prompt import Prompt, Sampling
from tests.unit.serve.deferred_runtime import DeferredRuntime
from tests.unit.serve.fake_runtime import FakeRuntime
from tests.unit.serve.small_tokenizer import small_tokenizer

WAIT = 20


def prompts_of(seed, count, vocab=97, longest=40):
    """Prompts that often share prefixes."""
    rng = random.Random(seed)
    stems = [[rng.randrange(vocab) for _ in range(rng.randrange(1, 30))] for _ in range(3)]
    return [
        (rng.choice(stems) + [rng.randrange(vocab) for _ in range(rng.randrange(0, 12))])[:longest] or [1]
        for _ in range(count)
    ]


@given(
    seed=st.integers(0, 2**32),
    slots=st.integers(1, 6),
    chunk=st.sampled_from([1, 3, 1024]),
    stall=st.sampled_from([1e-9, 0.1]),
)
@settings(max_examples=40, deadline=None)
def test_any_traffic_gets_the_tokens_it_would_get_alone(seed, slots, chunk, stall):
    rng = random.Random(seed)
    runtime = FakeRuntime(slots=slots, capacity=64)
    engine = Engine(runtime, rows=rng.randint(1, slots), eos_token_ids=[3], costs=StepCosts(stall, chunk))
    engine.start()
    try:
        wanted = []
        for ids in prompts_of(seed, rng.randint(1, 14)):
            count = rng.randint(1, 30)
            wanted.append((ids, count, engine.submit(Prompt(ids, count, priority=rng.randrange(3)))))
            if rng.random() < 0.3:
                time.sleep(rng.random() * 2e-3)
        for ids, count, generation in wanted:
            completion = generation.wait(WAIT)
            limit = min(count, runtime.capacity - len(ids))
            answer = runtime.greedy(ids, limit, stops=[3])
            assert completion.token_ids == answer
            assert completion.finish_reason == ("length" if len(answer) == limit else "stop")
            assert completion.stop_token_id == (None if len(answer) == limit else 3)
            assert completion.cached_tokens < len(ids)
    finally:
        engine.close()
    engine._stepper.scheduler.check()
    assert not engine._open and engine.stats().active_rows == 0


def test_a_shared_prefix_is_computed_once_even_in_a_burst(start):
    runtime = FakeRuntime(slots=8)
    runtime.gate.clear()
    engine = start(runtime)
    system = list(range(30))
    generations = [engine.submit(Prompt([*system, 50 + i, 60], 3)) for i in range(6)]
    runtime.gate.set()
    completions = [generation.wait(WAIT) for generation in generations]
    assert sum(c.cached_tokens == 30 for c in completions) == 5
    assert engine.stats().tokens_prefilled + engine.stats().decode_rows <= 32 + 5 * 2 + 6 * 3


def test_a_conversations_next_turn_computes_only_what_is_new(start):
    runtime = FakeRuntime(slots=4)
    engine = start(runtime, rows=2)
    first = engine.submit(Prompt([1, 2, 3, 4], 5)).wait(WAIT)
    again = [1, 2, 3, 4, *first.token_ids, 9, 9]
    second = engine.submit(Prompt(again, 4)).wait(WAIT)
    assert second.cached_tokens == 4 + 5 - 1  # the last token of the answer was never fed back
    assert second.token_ids == runtime.greedy(again, 4)


async def test_tokens_stream_as_they_come(start, monkeypatch):
    runtime = FakeRuntime()
    monkeypatch.setattr(runtime, "_tick", lambda: time.sleep(2e-3))
    engine = start(runtime)
    generation = engine.submit(Prompt([1, 2, 3], 20))
    chunks = [chunk async for chunk in generation]
    streamed = [token for chunk in chunks for token in chunk.token_ids]
    assert streamed == runtime.greedy([1, 2, 3], 20)
    assert (await generation.result()).token_ids == streamed
    assert len(chunks) > 1


async def test_many_readers_of_one_generation_all_wake(start):
    engine = start()
    generation = engine.submit(Prompt([1], 10))
    results = await asyncio.gather(*(generation.result() for _ in range(5)))
    assert len({id(result) for result in results}) == 1


async def test_one_call_into_the_event_loop_per_step(start, monkeypatch):
    runtime = FakeRuntime()
    runtime.gate.clear()
    engine = start(runtime)
    loop, calls = asyncio.get_running_loop(), []
    real = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *a: (calls.append(a), real(*a))[1])
    generations = [engine.submit(Prompt([1, i], 10)) for i in range(8)]

    async def read(generation):
        return [chunk async for chunk in generation]

    tasks = [asyncio.create_task(read(generation)) for generation in generations]
    await asyncio.sleep(0)
    runtime.gate.set()
    await asyncio.gather(*tasks)
    steps = len(runtime.decoded_rows) + len(runtime.prefills)
    assert 2 <= len(calls) <= steps
    calls.clear()
    runtime.gate.clear()
    task = asyncio.create_task(engine.submit(Prompt([9], 30)).result())
    await asyncio.sleep(0)
    runtime.gate.set()
    await task
    assert len(calls) == 1  # who only wants the result is not woken for every token


def test_cancelling_ends_a_running_and_a_queued_generation(start):
    runtime = FakeRuntime(slots=1)
    runtime.gate.clear()
    engine = start(runtime)
    running, queued, last = (engine.submit(Prompt([i], 30)) for i in (1, 2, 3))
    queued.cancel()
    running.cancel()
    runtime.gate.set()
    assert running.wait(WAIT).finish_reason == "cancelled"
    assert queued.wait(WAIT).finish_reason == "cancelled"
    assert queued.wait(WAIT).completion_tokens == 0
    assert last.wait(WAIT).token_ids == runtime.greedy([3], 30)
    running.cancel()  # too late: nothing happens


def test_a_deadline_ends_running_and_queued_generations(start):
    runtime = FakeRuntime(slots=1, capacity=4096)
    engine = start(runtime)
    soon = time.monotonic() + 0.05
    running = engine.submit(Prompt([1], 4000, deadline=soon))
    queued = engine.submit(Prompt([2], 5, deadline=soon - 1))
    patient = engine.submit(Prompt([3], 5, deadline=soon + WAIT))
    assert queued.wait(WAIT).finish_reason == "expired"
    expired = running.wait(WAIT)
    assert expired.finish_reason == "expired"
    assert expired.token_ids == runtime.greedy([1], len(expired.token_ids))
    assert patient.wait(WAIT).finish_reason == "length"


def test_urgent_prompts_run_first(start):
    runtime = FakeRuntime(slots=1)
    runtime.gate.clear()
    engine = start(runtime)
    now = time.monotonic()
    first = engine.submit(Prompt([9], 2))
    while not engine.stats().active_rows:
        time.sleep(1e-3)
    late = engine.submit(Prompt([1] * 2, 2))
    dated = engine.submit(Prompt([2] * 3, 2, deadline=now + WAIT))
    important = engine.submit(Prompt([3] * 4, 2, priority=1))
    runtime.gate.set()
    for generation in (first, late, dated, important):
        generation.wait(WAIT)
    assert [lengths for _, lengths, _ in runtime.prefills] == [[4], [3], [2]]  # a single token is decoded


def test_an_error_in_the_thread_fails_everything_and_says_why(start):
    runtime = FakeRuntime(slots=2)
    runtime.fail_at = 3
    runtime.gate.clear()
    engine = start(runtime)
    generations = [engine.submit(Prompt([i], 30)) for i in range(5)]
    runtime.gate.set()
    for generation in generations:
        with pytest.raises(EngineFailed, match="device lost"):
            generation.wait(WAIT)
    assert "device lost" in str(engine.failed.exception(WAIT))
    with pytest.raises(EngineFailed, match="device lost"):
        engine.submit(Prompt([1], 1))
    engine.close()
    assert runtime.closed


async def test_an_error_in_the_thread_wakes_the_event_loop(start):
    runtime = FakeRuntime()
    runtime.fail_at = 2
    generation = start(runtime).submit(Prompt([1], 30))
    with pytest.raises(EngineFailed, match="device lost"):
        await generation.result()
    with pytest.raises(EngineFailed):
        async for _ in generation:
            pass


async def test_who_ends_in_the_step_that_fails_is_told(start):
    runtime = FakeRuntime()
    runtime.fail_at = 1
    runtime.gate.clear()
    engine = start(runtime)
    ended, failed = engine.submit(Prompt([1, 2], 1)), engine.submit(Prompt([3, 4], 20))
    readers = [asyncio.create_task(one.result()) for one in (ended, failed)]
    await asyncio.sleep(0)
    runtime.gate.set()
    first, second = await asyncio.wait_for(asyncio.gather(*readers, return_exceptions=True), WAIT)
    assert first.completion_tokens == 1 and isinstance(second, EngineFailed)


def test_no_grammar_is_compiled_for_who_is_gone_or_too_late(start):
    compiled, go_on = [], threading.Event()

    class Compiler(GrammarCompiler):
        def compile(self, grammar):
            compiled.append(grammar)
            go_on.wait(WAIT)
            return super().compile(grammar)

    engine = start(FakeRuntime(vocab_size=256), compiler=Compiler.over(small_tokenizer(), 256, [1, 2, 3]))
    grammars = [Grammar.regex("[a-z]" * count) for count in range(1, 5)]
    first = engine.submit(Prompt([5], 5, grammar=grammars[0]))
    late = engine.submit(Prompt([5], 5, grammar=grammars[1], deadline=time.monotonic()))
    gone = engine.submit(Prompt([5], 5, grammar=grammars[2]))
    last = engine.submit(Prompt([5], 5, grammar=grammars[3]))
    gone.cancel()
    assert gone.wait(WAIT).finish_reason == "cancelled"
    go_on.set()
    assert late.wait(WAIT).finish_reason == "expired"
    assert first.wait(WAIT).completion_tokens and last.wait(WAIT).completion_tokens
    assert compiled == [grammars[0], grammars[3]]


def test_logits_that_are_not_numbers_fail_only_their_row(start, monkeypatch):
    runtime = FakeRuntime(slots=2, vocab_size=97)
    real = runtime.logits_of
    poison = {runtime.cells[0][0]}
    monkeypatch.setattr(
        runtime, "logits_of", lambda cell: np.full(97, np.nan, np.float32) if cell in poison else real(cell)
    )
    poison.add((77 * 7919 + 12345) % ((1 << 61) - 1))  # the prompt [77]
    engine = start(runtime)
    bad, good = engine.submit(Prompt([77], 5)), engine.submit(Prompt([78], 5))
    with pytest.raises(GenerationFailed):
        bad.wait(WAIT)
    assert good.wait(WAIT).completion_tokens == 5
    assert len(runtime.cleared) == 1, "what is no number stays in the way of the slot's next request"


def test_closing_ends_what_is_open():
    runtime = FakeRuntime()
    runtime.gate.clear()
    engine = Engine(runtime)
    engine.start()
    generation = engine.submit(Prompt([1], 30))
    threading.Timer(0.05, runtime.gate.set).start()
    engine.close()
    with pytest.raises(EngineClosed):
        generation.wait(0)
    with pytest.raises(EngineClosed):
        engine.submit(Prompt([1], 1))
    assert engine.failed.result(0) is None


def test_an_engine_that_never_started_closes_too():
    engine = Engine(FakeRuntime())
    generation = engine.submit(Prompt([1], 1))
    engine.close()
    with pytest.raises(EngineClosed):
        generation.wait(0)


def test_what_can_never_run_is_refused_at_once(start):
    engine = start(FakeRuntime(slots=1, capacity=8, vocab_size=10), queue_limit=1)
    with pytest.raises(PromptTooLong, match="at most 7"):
        engine.submit(Prompt([1] * 8, 1))
    assert engine.submit(Prompt([1] * 7, 5)).wait(WAIT).completion_tokens == 1
    for wrong in ([-1], [10], ["a"], [1.5]):
        with pytest.raises(InvalidPrompt):
            engine.submit(Prompt(wrong, 1))
    for stop in (-1, 97):
        with pytest.raises(InvalidPrompt, match="stop tokens"):
            engine.submit(Prompt([1], 1, stop_token_ids=[3, stop]))
    with pytest.raises(InvalidPrompt):
        Prompt([], 1)
    with pytest.raises(InvalidPrompt):
        Prompt([1], 0)


def test_a_full_queue_is_refused(start):
    runtime = FakeRuntime(slots=1)
    runtime.gate.clear()
    engine = start(runtime, queue_limit=2)
    generations = [engine.submit(Prompt([1], 2)) for _ in range(3)]
    with pytest.raises(EngineBusy):
        engine.submit(Prompt([1], 2))
    runtime.gate.set()
    for generation in generations:
        generation.wait(WAIT)
    engine.submit(Prompt([1], 2)).wait(WAIT)


def test_a_seed_draws_the_same_in_any_company(start):
    sampling = Sampling(temperature=1.5, top_k=20, top_p=0.9, seed=42)
    alone = start(FakeRuntime()).submit(Prompt([1, 2], 20, sampling)).wait(WAIT)
    engine = start(FakeRuntime())
    crowd = [engine.submit(Prompt([5 + i], 30, Sampling(1.0))) for i in range(6)]
    among = engine.submit(Prompt([1, 2], 20, sampling)).wait(WAIT)
    other = engine.submit(Prompt([1, 2], 20, Sampling(1.5, 20, 0.9, seed=43))).wait(WAIT)
    assert among.token_ids == alone.token_ids != other.token_ids
    for generation in crowd:
        generation.wait(WAIT)


def test_random_cancellations_lose_nothing(start):
    rng = random.Random(1)
    engine = start(FakeRuntime(slots=3, capacity=64))
    generations = []
    for ids in prompts_of(5, 60):
        generations.append(engine.submit(Prompt(ids, rng.randint(1, 20))))
        if rng.random() < 0.5:
            rng.choice(generations).cancel()
    reasons = {generation.wait(WAIT).finish_reason for generation in generations}
    assert reasons <= {"cancelled", "length"}
    stats = engine.stats()
    assert sum(stats.finished.values()) == 60 and stats.queued == 0


def test_a_request_that_its_grammar_fails_leaves_the_others_their_tokens():
    """Also where the next step takes its tokens from the device."""
    compiler = GrammarCompiler.over(small_tokenizer(), 256, [1, 2, 3])
    impossible = Grammar.lark("start: A\nA: /x[ab]+/ & /x[cd]+/\n")
    compiler.compile(impossible)

    def answer(beside):
        runtime = DeferredRuntime(FakeRuntime(slots=4, capacity=128, vocab_size=256))
        engine = Engine(runtime, rows=3, eos_token_ids=[1, 2, 3], compiler=compiler)
        sampling = Sampling(temperature=1.0, seed=5)
        first = engine.submit(Prompt([20, 21, 22], 40, sampling, ignore_eos=True))
        others = [engine.submit(Prompt([30 + i], 30, grammar=impossible)) for i in range(beside)]
        engine.start()
        try:
            for other in others:
                with pytest.raises(GrammarError):
                    other.wait(WAIT)
            return first.wait(WAIT).token_ids
        finally:
            engine.close()

    assert answer(beside=6) == answer(beside=0)
