"""Products in E4M3 against numpy: both what is stored and what the graph computes with it."""

import ml_dtypes
import numpy as np
import onnxruntime
import pytest

from engines.build.calibrate import calibrate
from engines.build.graph.builder import GraphBuilder
from engines.build.graph.dialects import DIALECTS
from engines.build.recipe import Recipe
from engines.build.windows import windows

E4M3 = np.dtype(ml_dtypes.float8_e4m3fn)


@pytest.fixture(scope="module")
def solved(texts, tmp_path_factory):
    """(checkpoint, recipe) with the weights of a golden checkpoint solved in fp8."""
    from engines.build.checkpoint import Checkpoint
    from tests.unit.build.conftest import GOLDEN

    source, recipe = Checkpoint(GOLDEN / "glm"), Recipe("fp8", whole_rows=True)
    scratch = tmp_path_factory.mktemp("scratch")
    solution = calibrate(source, recipe, windows(source, texts[0], 2000), scratch, lambda done, total: None)
    return source, Recipe("fp8", whole_rows=True, solution=solution)


def rounded(x, scale):
    return np.clip(x / scale, -448, 448).astype(E4M3).astype(np.float32) * scale


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("product", ["qkv", "down"])
def test_a_product(solved, dialect, product, tmp_path):
    source, recipe = solved
    layer = source.parameters.layers[1]
    linear = layer.attention.qkv if product == "qkv" else layer.mlp.down
    matrix, form = linear.weight, recipe.format(linear.weight, "linear")
    assert form.floating and form.block == matrix.shape[1]
    with GraphBuilder(tmp_path / "product.onnx") as b:
        writer = DIALECTS[dialect](b, source.parameters, source.tensors, recipe)
        answer = writer.linear(b.input("x", "float32", ("T", matrix.shape[1])), linear)
        b.nodes("Identity", [answer], [b.output("y", "float32", ("T", matrix.shape[0]))])
        b.save()
    x = 3 * np.random.default_rng(0).standard_normal((50, matrix.shape[1])).astype(np.float32)
    x[0, 0] = 1e6  # far beyond what calibration saw: it saturates
    (found,) = onnxruntime.InferenceSession(tmp_path / "product.onnx").run(None, {"x": x})
    stored = recipe.solution.find(matrix, form)
    weight = stored.codes.astype(np.float32) * stored.scales
    bias = linear.bias.values(source.tensors) if linear.bias else 0
    scale = np.float32(recipe.solution.input_scale(matrix, form))
    np.testing.assert_allclose(found, rounded(x, scale) @ weight.T + bias, rtol=1e-4, atol=1e-3)
    assert stored.codes.dtype == E4M3
    exact = matrix.rows(source.tensors)
    assert np.abs(weight - exact).max() < 2**-3 * np.abs(exact).max()


def test_the_ends_stay_integers(solved):
    source, recipe = solved
    form = recipe.format(source.parameters.head.weight, "head")
    assert (form.bits, form.floating, form.block) == (8, False, 64)
