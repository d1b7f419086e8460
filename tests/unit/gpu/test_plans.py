"""Plans compile without a GPU, and their manifests are what the GPU runtime asks for.

tests/unit/build compiles those of all families.
"""

import pytest

from engines.build import build
from engines.build.plan import PlanOptions
from engines.errors import BuildError, EngineFolderError
from engines.manifest import Manifest
from engines.serve.runtime.trt.buffers import Sizes
from engines.serve.runtime.trt.compatibility import check_plan, profile
from engines.serve.runtime.trt.layout import CacheLayout
from tests.unit.conftest import GOLDEN


def test_a_plan_is_what_the_machine_asks_for(tmp_path):
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    folder = tmp_path / "engine"
    build(GOLDEN / "glm4-moe-lite", folder, plan=PlanOptions(4, 64, 16, flavour="tensorrt_rtx"))
    manifest = Manifest.load(folder)
    assert (manifest.runtime, manifest.dtype, manifest.graphs) == ("tensorrt_rtx", "bfloat16", {})
    facts = {"flavour": "tensorrt_rtx", "version": trt.__version__, "capability": "8.9"}
    plan = check_plan(manifest, **facts)
    layout = CacheLayout.of(manifest)
    assert (layout.capacity, layout.itemsize, layout.heads) == (64, 2, manifest.sizes.kv_heads)
    prefill = profile(plan, "prefill")
    sizes = Sizes.of(4, manifest.sizes.vocab_size, layout, prefill, manifest.sizes.hidden)
    assert (sizes.rows, sizes.chunk) == (4, 16)
    content = bytearray((folder / plan.file).read_bytes())
    content[-1] ^= 1
    (folder / plan.file).write_bytes(content)
    with pytest.raises(EngineFolderError, match=r"model\.plan has SHA-256"):
        Manifest.load(folder)


def test_a_capacity_that_could_not_be_bound_is_refused_before_building(tmp_path):
    with pytest.raises(BuildError, match="capacity 60 of a plan is not a multiple of 16"):
        build(GOLDEN / "glm", tmp_path / "glm", plan=PlanOptions(4, 60, 16))
    assert not (tmp_path / "glm").exists()
