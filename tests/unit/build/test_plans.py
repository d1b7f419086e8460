"""Every family compiles with TensorRT-RTX, each precision at least once, solved for calibration text."""

import os
import signal
import threading

import pytest

from engines.build import PlanOptions, build, inspect
from engines.errors import BuildError
from engines.manifest import Manifest
from tests.unit.build.conftest import GOLDEN

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")

OPTIONS = PlanOptions(slots=4, capacity=64, chunk=16, flavour="tensorrt_rtx")
CASES = {
    "glm": ("fp8", 128),
    "glm-edge-tied": ("int8", 128),
    "glm4": ("int4", 64),
    "glm4-moe": ("int4", 128),
    "glm4-moe-groups": ("fp32", 128),
    "glm4-moe-lite": ("fp8", 64),
}


@pytest.mark.parametrize("name", CASES)
def test_a_plan_of_every_family(name, texts, tmp_path):
    precision, block = CASES[name]
    calibration = () if precision == "fp32" else texts[0]
    steps = []
    manifest = build(
        GOLDEN / name,
        tmp_path / "engine",
        precision=precision,
        block=block,
        plan=OPTIONS,
        calibration=calibration,
        progress=lambda *step: steps.append(step),
    )
    assert ("TensorRT plan", 100, 100) in steps
    assert (
        manifest.runtime == "tensorrt_rtx" and manifest.dtype == "bfloat16" and manifest.plan.capacity == 64
    )
    decode, prefill = manifest.plan.profiles
    assert decode.batch == (1, 4, 4) and decode.tokens == (1, 1, 1) and prefill.tokens == (1, 16, 16)
    assert sorted(path.name for path in (tmp_path / "engine").iterdir()) == [
        "generation_config.json",
        "manifest.json",
        "model.plan",
    ]
    assert Manifest.load(tmp_path / "engine") == manifest
    assert f"tensorrt_rtx {manifest.plan.version}" in inspect(tmp_path / "engine")["Plan"]["compiled by"]


def test_capabilities(texts, tmp_path):
    def options(*capabilities):
        return PlanOptions(1, 32, 8, capabilities=capabilities, flavour="tensorrt_rtx")

    def refuse(words, *capabilities, **more):
        with pytest.raises(BuildError, match=words):
            build(GOLDEN / "glm", tmp_path / "refused", plan=options(*capabilities), **more)
        assert not list(tmp_path.glob("*refused*"))

    refuse("does not compile for compute capability 5.0, only for .*SM89", "5.0")
    refuse("'ada' must be written like 8.9", "8.9", "ada")
    refuse("'ada' must be written like 8.9", "ada", precision="fp8", calibration=texts[0])
    refuse("capability 8.6 have no fp8", "8.9", "8.6", precision="fp8", calibration=texts[0])
    manifest = build(GOLDEN / "glm-edge-tied", tmp_path / "engine", plan=options("8.6", "8.9"))
    assert manifest.plan.compute_capabilities == ("8.6", "8.9")


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def stumble():
    raise RuntimeError("the pipe is closed")


@pytest.mark.parametrize("at", [0, 100])
@pytest.mark.parametrize(("act", "expected"), [(interrupt, KeyboardInterrupt), (stumble, RuntimeError)])
def test_what_ends_a_compilation_is_not_lost(tmp_path, act, expected, at):
    """TensorRT itself would print what is raised while it calls Python, and go on."""
    stopped = threading.Event()

    def progress(step, done, total):
        if step == "TensorRT plan" and done >= at and not stopped.is_set():
            stopped.set()
            act()

    with pytest.raises(expected):
        build(GOLDEN / "glm", tmp_path / "engine", plan=OPTIONS, progress=progress)
    assert not list(tmp_path.iterdir())
