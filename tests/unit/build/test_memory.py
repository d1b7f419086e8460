"""The memory plan against what is really written."""

import pytest

from engines.build import build, memory_plan
from engines.errors import BuildError
from tests.unit.build.conftest import GOLDEN


@pytest.mark.parametrize("name", ["glm", "glm-edge-tied", "glm4-moe-lite"])
@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_weights_are_as_large_as_planned(name, precision, tmp_path):
    manifest = build(GOLDEN / name, tmp_path / "engine", precision=precision)
    planned = memory_plan(GOLDEN / name, precision=precision)
    written = sum(entry.bytes for file, entry in manifest.files.items() if file.startswith("graph.onnx"))
    # Pages, nodes and rotary tables come on top; they are most of what such a tiny model's file holds.
    pages = 4096 * 40 * manifest.sizes.layers
    assert planned.weights_bytes <= written <= planned.weights_bytes + pages
    assert planned.kv_bytes_per_token == manifest.kv.bytes_per_token(manifest.sizes.layers)
    assert planned.parameters == manifest.sizes.parameters


def test_a_plan_halves_cache_and_floats():
    fp32 = memory_plan(GOLDEN / "glm")
    bf16 = memory_plan(GOLDEN / "glm", plan=True)
    assert bf16.kv_bytes_per_token * 2 == fp32.kv_bytes_per_token
    assert bf16.weights_bytes * 2 == fp32.weights_bytes
    fp8, int8 = (memory_plan(GOLDEN / "glm", plan=True, precision=p) for p in ("fp8", "int8"))
    assert fp8.weights_bytes == int8.weights_bytes < bf16.weights_bytes


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "int3"}, "'int3' is none of fp32"),
        ({"precision": "int4", "block": 8}, "block 8 is none of 128"),
        ({"precision": "fp8"}, "TensorRT plans alone"),
    ],
)
def test_what_cannot_be_built_needs_no_memory(options, words):
    with pytest.raises(BuildError, match=words):
        memory_plan(GOLDEN / "glm", **options)


def test_what_fits_is_the_most_that_fits():
    room = 3 << 20
    plan = memory_plan(GOLDEN / "glm", precision="int4", plan=True, device_bytes=room)
    assert plan.fits
    for context, slots in plan.fits:
        assert plan.total_bytes(slots, context) <= room < plan.total_bytes(slots + 1, context)
    assert not memory_plan(GOLDEN / "glm", device_bytes=1 << 16).fits
