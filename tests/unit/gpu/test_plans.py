"""Plans of all families compile without a GPU, and their manifests are what the GPU runtime asks for."""

import pytest

from engines.build import build
from engines.build.plan import PlanOptions
from engines.errors import EngineFolderError
from engines.manifest import Manifest
from engines.serve.runtime.trt.buffers import Sizes
from engines.serve.runtime.trt.compatibility import check_plan, profile
from engines.serve.runtime.trt.layout import CacheLayout
from tests.unit.conftest import GOLDEN

FAMILIES = sorted(path.name for path in GOLDEN.iterdir())


@pytest.mark.parametrize("name", FAMILIES)
def test_a_familys_plan_compiles(name, tmp_path):
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    folder = tmp_path / name
    build(GOLDEN / name, folder, plan=PlanOptions(4, 64, 16, flavour="tensorrt_rtx"))
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
