"""A plan is refused before it is loaded, with both sides of what does not fit."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from engines.errors import EngineFolderError
from engines.manifest import FileEntry, KVLayout, Manifest, Sizes
from engines.serve.runtime.trt.compatibility import check_plan, profile, profile_index, tensorrt_of
from tests.unit.gpu.emulated_runtime import plan_of

HERE = {"flavour": "tensorrt", "version": "0.0", "capability": "8.9"}


def manifest_with(**changes):
    plan = plan_of(64, 8)
    sizes = dict.fromkeys(Sizes.model_fields, 8)
    return Manifest(
        name="desk",
        family="glm",
        precision="int4",
        block=128,
        dtype="bfloat16",
        runtime="tensorrt",
        dialect="standard",
        graphs={},
        sizes=Sizes(**sizes),
        kv=KVLayout(dtype="bfloat16", shape=("slots", 8, 64, 8)),
        eos_token_ids=[0],
        tokenizer_sha256=None,
        source_sha256="",
        builder={},
        plan=plan.model_copy(update=changes),
        files={"model.plan": FileEntry(sha256="", bytes=1)},
    )


def test_a_plan_that_fits_is_found_with_its_profiles():
    plan = check_plan(manifest_with(), **HERE)
    assert [profile_index(plan, name) for name in ("decode", "prefill")] == [0, 1]
    assert profile(plan, "decode").batch[2] == 8


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"flavour": "tensorrt_rtx"}, "built with tensorrt_rtx, tensorrt is installed"),
        ({"version": "9.9"}, r"tensorrt 9\.9, 0\.0 is installed"),
        ({"compute_capabilities": ("8.0", "12.0")}, r"capability 8\.0, 12\.0, this GPU has 8\.9"),
        ({"file": "other.plan"}, "no fingerprint of other.plan"),
        ({"profiles": plan_of(64, 8).profiles[:1]}, "no prefill profile"),
    ],
)
def test_a_mismatch_names_both_sides(changes, problem):
    with pytest.raises(EngineFolderError, match=problem):
        check_plan(manifest_with(**changes), **HERE)


def test_the_tensorrt_that_is_installed_must_be_the_plans(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__name__="tensorrt", __version__="0.0"))
    assert tensorrt_of(manifest_with()) is sys.modules["tensorrt"]
    with pytest.raises(EngineFolderError, match=r"tensorrt 9\.9, 0\.0 is installed"):
        tensorrt_of(manifest_with(version="9.9"))
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineFolderError, match="not installed; pip install tensorrt-cu13"):
        tensorrt_of(manifest_with())


def test_an_engine_for_the_cpu_has_no_plan():
    with pytest.raises(EngineFolderError, match="desk has no TensorRT plan"):
        check_plan(manifest_with().model_copy(update={"plan": None}), **HERE)


def test_a_plan_for_any_gpu_runs_on_this_one():
    check_plan(manifest_with(compute_capabilities=()), **HERE)


def test_everything_imports_without_a_gpu_its_driver_or_tensorrt():
    block = "import sys; sys.modules.update(dict.fromkeys(('pycuda', 'tensorrt', 'tensorrt_rtx', 'nvidia')));"
    code = (
        f"{block} import engines.serve.runtime.trt.runtime, engines.serve.kernels.nvrtc, engines.serve.engine"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
