"""The engine with real graphs: the reference's greedy tokens, alone and in any company."""

import json
import random
import shutil

import pytest

from engines.build import build
from engines.errors import EngineFolderError, EngineTooLarge, GrammarError
from engines.serve.costs import StepCosts
from engines.serve.engine import Engine
from engines.serve.grammar import Grammar
from engines.serve.prompt import Prompt
from tests.unit.conftest import GOLDEN
from tests.unit.serve.small_tokenizer import small_tokenizer

WAIT = 60
CASES = ("glm", "glm-edge-tied")


def expect(completion, golden, row):
    sure = golden["sure"][row]
    assert completion.token_ids[:sure] == golden["generated"][row, :sure].tolist()
    assert len(completion.token_ids) == 24


@pytest.mark.parametrize("name", CASES)
def test_every_prompt_alone(name, golden, folders):
    engine = Engine.load(folders / name, slots=2, capacity=64)
    engine.start()
    try:
        for row, prompt in enumerate(golden[name]["prompts"]):
            expect(engine.submit(Prompt(prompt, 24, ignore_eos=True)).wait(WAIT), golden[name], row)
    finally:
        engine.close()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("chunk", [3, 16, 1024])
def test_every_prompt_in_random_company(name, chunk, golden, open_ort, start):
    rng = random.Random(chunk)
    engine = start(open_ort(name, slots=7), rows=6, costs=StepCosts(chunk=chunk))
    prompts = golden[name]["prompts"]
    submitted = []
    for _ in range(40):
        row = rng.randrange(4)
        if rng.random() < 0.25:  # a stranger that shares a prefix and leaves at its own time
            stranger = [*prompts[row][: rng.randint(1, len(prompts[row]))], rng.randrange(2, 256)]
            generation = engine.submit(Prompt(stranger, rng.randint(1, 40), ignore_eos=True))
            if rng.random() < 0.5:
                generation.cancel()
        else:
            submitted.append((row, engine.submit(Prompt(prompts[row], 24, ignore_eos=True))))
        if rng.random() < 0.3:
            submitted[-1][1].wait(WAIT) if submitted else None
    for row, generation in submitted:
        expect(generation.wait(WAIT), golden[name], row)


@pytest.mark.parametrize("name", CASES)
def test_an_answer_continues_from_its_own_cache(name, golden, open_ort, start):
    """Prompt plus half the answer: the cached half gives the same other half."""
    engine = start(open_ort(name))
    case = golden[name]
    for row, prompt in enumerate(case["prompts"]):
        if case["sure"][row] < 24:
            continue
        engine.submit(Prompt(prompt, 24, ignore_eos=True)).wait(WAIT)
        half = case["generated"][row, :12].tolist()
        rest = engine.submit(Prompt(prompt + half, 12, ignore_eos=True)).wait(WAIT)
        assert rest.cached_tokens == len(prompt) + 11
        assert rest.token_ids == case["generated"][row, 12:].tolist()


def test_without_a_tokenizer_grammars_are_refused(folders):
    engine = Engine.load(folders / "glm", slots=1, capacity=16)
    with pytest.raises(GrammarError, match="no tokenizer"):
        engine.submit(Prompt([1], 1, grammar=Grammar.choice(["yes"])))
    engine.close()


def test_what_does_not_fit_is_refused_with_the_number_that_does(folders):
    with pytest.raises(EngineTooLarge, match=r"at most [1-9][0-9]* rows fit"):
        Engine.load(folders / "glm", slots=10**9)
    with pytest.raises(EngineTooLarge, match="256"):
        Engine.load(folders / "glm", capacity=257)
    with pytest.raises(EngineFolderError):
        Engine.load(folders)


def test_a_folder_with_a_tokenizer_brings_text_and_grammars(tmp_path):
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(GOLDEN / "glm", checkpoint)
    (checkpoint / "tokenizer.json").write_text(small_tokenizer(), encoding="utf-8")
    build(checkpoint, tmp_path / "engine")
    engine = Engine.load(tmp_path / "engine", slots=1, capacity=64)
    engine.start()
    try:
        assert engine.tokenizer is not None and engine.manifest.sizes.vocab_size == 256
        prompt = Prompt(engine.tokenizer.encode("user"), 9, grammar=Grammar.choice(["low", "user"]))
        assert engine.tokenizer.decode(engine.submit(prompt).wait(WAIT).token_ids) in ("low", "user")
    finally:
        engine.close()


def test_an_engine_of_a_newer_version_is_named_as_such(folders, tmp_path):
    manifest = json.loads((folders / "glm" / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"format": 2, "more": {}}))
    with pytest.raises(EngineFolderError, match="has format 2, this version reads 1; rebuild it"):
        Engine.load(tmp_path)
