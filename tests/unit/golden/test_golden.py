"""Built graphs against the reference's logits and greedy tokens."""

from pathlib import Path

import numpy as np
import pytest

from engines.build import build
from engines.build.safetensors import SafeTensors
from tests.unit.golden.rows import Rows

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
CASES = sorted(path.name for path in GOLDEN.iterdir())
DIALECTS = ("fused", "standard")
CAPACITY, MARGIN = 64, 1e-2


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """The engine folder and the reference's arrays of one golden checkpoint."""
    out = tmp_path_factory.mktemp("engine") / request.param
    build(GOLDEN / request.param, out, dialects=DIALECTS)
    with np.load(GOLDEN / request.param / "golden.npz") as arrays:
        return out, dict(arrays)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_logits_of_whole_prompts(case, dialect: str):
    folder, golden = case
    prompts = [row[:n].tolist() for row, n in zip(golden["input_ids"], golden["lengths"], strict=True)]
    found = Rows(folder, dialect, len(prompts), CAPACITY).step(prompts)
    for logits, expected in zip(found, golden["logits"], strict=True):
        np.testing.assert_allclose(logits, expected[: len(logits)], atol=1e-3)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_hidden_states_are_those_behind_the_references_logits(case, dialect: str):
    """Solved for from the reference's logits and the checkpoint's own head, which has full rank."""
    folder, golden = case
    tensors = SafeTensors(GOLDEN / folder.name)
    name = "lm_head.weight" if "lm_head.weight" in tensors else "model.embed_tokens.weight"
    head = tensors.read(name).astype(np.float64)
    assert np.linalg.matrix_rank(head) == head.shape[1]
    prompts = [row[:n].tolist() for row, n in zip(golden["input_ids"], golden["lengths"], strict=True)]
    rows = Rows(folder, dialect, len(prompts), CAPACITY)
    rows.step(prompts)
    assert rows.values["hidden"].shape[-1] == rows.manifest.sizes.hidden
    for hidden, logits, prompt in zip(rows.values["hidden"], golden["logits"], prompts, strict=True):
        expected = np.linalg.lstsq(head, logits[: len(prompt)].T.astype(np.float64), rcond=None)[0].T
        np.testing.assert_allclose(hidden[: len(prompt)], expected, atol=1e-3)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("chunk", [1, 7, 31])
def test_greedy_tokens_through_the_cache(case, dialect: str, chunk: int):
    """Prompts of any length mix in chunks with rows that decode already, and get the reference's tokens."""
    folder, golden = case
    prompts = [row[:n].tolist() for row, n in zip(golden["input_ids"], golden["lengths"], strict=True)]
    waiting, generated = [list(p) for p in prompts], [[] for _ in prompts]
    rows, steps = Rows(folder, dialect, len(prompts), 128), golden["generated"].shape[1]
    while min(map(len, generated)) < steps:
        feed = [w[:chunk] or [g[-1]] for w, g in zip(waiting, generated, strict=True)]
        waiting = [w[chunk:] for w in waiting]
        for row, logits in enumerate(rows.step(feed)):
            if not waiting[row]:
                generated[row].append(int(logits[-1].argmax()))
    for row, expected, margins in zip(generated, golden["generated"], golden["margins"], strict=True):
        close = np.flatnonzero(margins < MARGIN)
        sure = close[0] if len(close) else steps
        assert row[:sure] == expected[:sure].tolist()
