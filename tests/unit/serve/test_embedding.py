"""Prompts of which only the last hidden state is wanted, whatever runs beside them."""

import random
import shutil
from functools import partial

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.build.safetensors import SafeTensors
from engines.errors import GenerationFailed, HiddenStateMissing, InvalidPrompt
from engines.manifest import Manifest
from engines.serve.costs import StepCosts
from engines.serve.engine import Engine
from engines.serve.options import OptionTree
from engines.serve.prompt import Prompt
from engines.serve.runtime.ort import OrtRuntime
from tests.unit.conftest import GOLDEN
from tests.unit.serve.deferred_runtime import DeferredRuntime
from tests.unit.serve.fake_runtime import MASK, FakeRuntime

WAIT = 20


def expected(runtime, prompt):
    cell = 0
    for token in prompt:
        cell = (cell * 1_000_003 + token * 7919 + 12345) % MASK
    return tuple(runtime.hidden_of(cell).tolist())


@pytest.mark.parametrize("deferred", [False, True])
@given(seed=st.integers(0, 2**32), chunk=st.sampled_from([1, 3, 1024]))
@settings(max_examples=20, deadline=None)
def test_states_are_those_of_the_whole_prompt_in_any_company(deferred, seed, chunk):
    rng = random.Random(seed)
    fake = FakeRuntime(slots=4, capacity=64)
    engine = Engine(
        DeferredRuntime(fake) if deferred else fake, rows=rng.randint(1, 4), costs=StepCosts(1e-9, chunk)
    )
    engine.start()
    try:
        waiting = []
        stem = [rng.randrange(97) for _ in range(20)]
        for _ in range(rng.randint(1, 12)):
            prompt = [*stem[: rng.randint(1, 20)], rng.randrange(97)]
            kind = rng.choice(["embed", "embed", "options", "answer"])
            more = {"embed": {"embed": True}, "options": {"options": OptionTree([[1, 3], [2, 3]])}}
            waiting.append((kind, prompt, engine.submit(Prompt(prompt, 8, **more.get(kind, {})))))
        for kind, prompt, generation in waiting:
            completion = generation.wait(WAIT)
            if kind == "embed":
                assert completion.hidden == expected(fake, prompt)
                assert (completion.token_ids, completion.finish_reason) == ([], "stop")
            elif kind == "answer":
                assert completion.token_ids == fake.greedy(prompt, 8) and completion.hidden == ()
            else:
                assert len(completion.logprobs) == 2
        assert engine.stats().failed == 0
    finally:
        engine.close()


def test_the_same_text_again_computes_one_token(start):
    runtime = FakeRuntime()
    engine = start(runtime)
    prompt = Prompt(list(range(20)), 1, embed=True)
    first = engine.submit(prompt).wait(WAIT)
    again = engine.submit(prompt).wait(WAIT)
    assert (again.hidden, again.cached_tokens) == (first.hidden, 19)


def test_states_that_are_not_finite_fail_alone(start):
    runtime = FakeRuntime()
    runtime.hidden_of = lambda cell: np.full(3, np.nan, np.float32)
    engine = start(runtime)
    with pytest.raises(GenerationFailed):
        engine.submit(Prompt([1, 2], 1, embed=True)).wait(WAIT)
    assert engine.submit(Prompt([1, 2], 2)).wait(WAIT).token_ids


def test_one_thing_is_asked_of_a_prompt():
    with pytest.raises(InvalidPrompt, match="one of these"):
        Prompt([1], 1, embed=True, options=OptionTree([[1, 2], [2]]))


@pytest.mark.parametrize("name", ["glm", "glm-edge-tied"])
def test_a_golden_model_gives_the_reference_alone_and_in_company(name, golden, open_ort, start):
    case, engine, tensors = golden[name], start(open_ort(name)), SafeTensors(GOLDEN / name)
    head = tensors.read("lm_head.weight" if "lm_head.weight" in tensors else "model.embed_tokens.weight")
    embed = partial(Prompt, max_tokens=1, embed=True)
    rows = [*range(len(case["prompts"]))] * 3
    running = [engine.submit(embed(case["prompts"][row])) for row in rows]
    running += [engine.submit(embed(case["prompts"][row])) for row in rows[:2]]
    for row, generation in zip([*rows, *rows[:2]], running, strict=True):
        hidden, prompt = np.array(generation.wait(WAIT).hidden), case["prompts"][row]
        np.testing.assert_allclose(hidden @ head.T, case["logits"][row, len(prompt) - 1], atol=1e-3)


def test_an_engine_of_before_says_what_to_do_and_does_all_else(folders, golden, tmp_path, start):
    manifest = Manifest.load(folders / "glm")
    graph = onnx.load(folders / "glm" / manifest.graphs["fused"], load_external_data=False)
    (output,) = [value for value in graph.graph.output if value.name == "hidden"]
    graph.graph.output.remove(output)
    (node,) = [node for node in graph.graph.node if "hidden" in node.output]
    graph.graph.node.remove(node)
    old = shutil.copytree(folders / "glm", tmp_path / "old")
    (old / manifest.graphs["fused"]).write_bytes(graph.SerializeToString())
    engine = start(OrtRuntime.open(old, manifest, slots=2, capacity=64))
    with pytest.raises(HiddenStateMissing, match="build it again"):
        engine.submit(Prompt([1], 1, embed=True))
    prompt = golden["glm"]["prompts"][0]
    answer = engine.submit(Prompt(prompt, 24, ignore_eos=True)).wait(WAIT)
    sure = golden["glm"]["sure"][0]
    assert answer.token_ids[:sure] == golden["glm"]["generated"][0, :sure].tolist()
