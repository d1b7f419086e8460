"""The report: what quantization costs, on tokens that count."""

import math

import numpy as np
import pytest

from engines.build import build, inspect
from engines.build.checkpoint import Checkpoint
from engines.build.quality import Reference
from engines.build.windows import windows
from engines.errors import BuildError
from tests.unit.build.conftest import GOLDEN
from tests.unit.golden.rows import Rows


@pytest.mark.parametrize("name", ["glm4", "glm4-moe-lite"])
def test_solved_weights_cost_less_than_rounded_ones(name, texts, tmp_path):
    calibration, held_out = texts
    reports = {}
    for method, text in (("rounding", ()), ("gptq", calibration)):
        out = tmp_path / method
        manifest = build(GOLDEN / name, out, precision="int4", calibration=text, held_out=held_out)
        reports[method] = manifest.quality
        assert manifest.quality["method"] == method
        assert inspect(out)["Quality"]["method"] == method
    assert reports["gptq"]["kl_mean"] < 0.9 * reports["rounding"]["kl_mean"]
    assert reports["gptq"]["embedding_and_head_bits"] in (4, 8)


@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-9), ("int8", 0.02)])
def test_wide_weights_cost_little(precision, most, texts, tmp_path):
    quality = build(GOLDEN / "glm", tmp_path / "engine", precision=precision, held_out=texts[1]).quality
    assert 0 <= quality["kl_mean"] + 1e-12 < most + 1e-12
    assert quality["same_token"] > 0.85 and quality["tokens"] == 4 * 99


def test_perplexity_is_that_of_the_engine(texts, tmp_path):
    """Computed anew from the served graph's logits, over the counted tokens only."""
    rng = np.random.default_rng(0)
    held_out = [(ids, (rng.random(len(ids)) < 0.3).tolist()) for ids in texts[1]]
    quality = build(GOLDEN / "glm", tmp_path / "engine", precision="int4", held_out=held_out).quality
    losses = []
    for ids, counted in held_out:
        (logits,) = Rows(tmp_path / "engine", "fused", 1, 128).step([ids])
        wide = logits.astype(np.float64)
        logs = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
        losses += [-logs[t - 1, ids[t]] for t in range(1, len(ids)) if counted[t]]
    assert quality["tokens"] == len(losses)
    assert quality["perplexity"] == pytest.approx(math.exp(np.mean(losses)), rel=1e-3)


def test_fp32_perplexity_is_the_reference(tmp_path):
    """The layer-wise fp32 run gives the golden logits."""
    source = Checkpoint(GOLDEN / "glm4-moe")
    with np.load(GOLDEN / "glm4-moe" / "golden.npz") as golden:
        ids, logits = golden["input_ids"][2, :31].tolist(), golden["logits"][2, :31].astype(np.float64)
    reference = Reference(source, windows(source, [ids], 100), tmp_path, lambda done, total: None)
    build(GOLDEN / "glm4-moe", tmp_path / "engine")
    found = reference.measure(tmp_path / "engine" / "graph.onnx")
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = math.exp(-np.mean([logs[t - 1, ids[t]] for t in range(1, 31)]))
    assert found["perplexity_fp32"] == pytest.approx(expected, rel=1e-5)
    assert found["perplexity"] == pytest.approx(expected, rel=1e-5)


def test_the_report_is_on_windows_in_which_something_counts(checkpoint):
    """Also where most have nothing, and fewer than there are fit."""
    ids = [5, 6] * 128
    texts = [(ids, [place == 2] * len(ids)) for place in range(60)]
    (only,) = windows(checkpoint(), texts, 8192)
    assert only.counted.all() and len(only) == 256


def test_text_in_which_nothing_counts(tmp_path):
    with pytest.raises(BuildError, match="no token"):
        build(GOLDEN / "glm", tmp_path / "engine", held_out=[([5, 6, 7], [True, False, False])])
