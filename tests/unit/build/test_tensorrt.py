"""Plans of TensorRT itself, which knows no targets and measures while it compiles; it is emulated."""

import ctypes
import sys

import pytest

from engines.build import PlanOptions, build
from engines.errors import BuildError
from engines.manifest import Manifest
from tests.unit.build import emulated_builder
from tests.unit.build.conftest import GOLDEN


class Driver:
    """A CUDA driver of one GPU. capability: by attribute, major and minor."""

    def __init__(self):
        self.capability = {75: 8, 76: 9}

    def cuInit(self, flags):
        return 0

    def cuDeviceGetAttribute(self, value, attribute, device):
        value._obj.value = self.capability[attribute]
        return 0


@pytest.fixture(autouse=True)
def driver(monkeypatch):
    """Of this machine, which has TensorRT."""
    found = Driver()
    library = ctypes.CDLL
    monkeypatch.setattr(
        ctypes, "CDLL", lambda name, **how: found if name == "libcuda.so.1" else library(name, **how)
    )
    monkeypatch.setitem(sys.modules, "tensorrt", emulated_builder)
    return found


def options(**changes):
    return PlanOptions(1, 32, 8, flavour="tensorrt", **changes)


@pytest.mark.parametrize("kind", ["Builder", "IBuilderConfig", "ITimingCache", "OnnxParser"])
def test_the_emulation_has_no_other_calls(kind):
    real = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    emulated = {name for name in vars(getattr(emulated_builder, kind)) if not name.startswith("_")}
    assert emulated <= set(dir(getattr(real, kind)))


def test_timings_are_used_again(tmp_path):
    file = tmp_path / "cache" / "timing.cache"
    for precision in ("fp32", "int8"):
        build(GOLDEN / "glm", tmp_path / "engine", precision=precision, plan=options(timing_cache=file))
    assert file.read_bytes() == b"measured;measured;" and list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("taken", ["cache", "cache/timing.cache"])
def test_timings_that_cannot_be_kept_cost_no_plan(tmp_path, caplog, taken):
    """Where the folder should be is a file, or a folder where the file should be."""
    path = tmp_path / taken
    if taken == "cache":
        path.write_text("")
    else:
        path.mkdir(parents=True)
    file = tmp_path / "cache" / "timing.cache"
    build(GOLDEN / "glm", tmp_path / "engine", plan=options(timing_cache=file))
    assert (tmp_path / "engine" / "model.plan").read_bytes() == b"plan" and Manifest.load(tmp_path / "engine")
    assert "timings are not kept for the next time" in caplog.text and not list(
        tmp_path.glob("cache/*.[0-9]*")
    )


def test_another_gpu_needs_another_plan(tmp_path, driver):
    steps = []
    for minor, compiled in ((9, True), (9, False), (6, True)):
        driver.capability[76] = minor
        manifest = build(
            GOLDEN / "glm", tmp_path / "engine", plan=options(), progress=lambda *s: steps.append(s[0])
        )
        assert manifest.plan.compute_capabilities == (f"8.{minor}",)
        assert ("graph (plan)" in steps) == compiled
        steps.clear()


def test_what_the_own_gpu_cannot_do_is_refused_before_building(tmp_path, driver, texts):
    driver.capability[76] = 6
    with pytest.raises(BuildError, match=r"capability 8\.6 have no fp8"):
        build(GOLDEN / "glm", tmp_path / "e" / "e", precision="fp8", plan=options(), calibration=texts[0])
    with pytest.raises(BuildError, match=r"compiles for the GPU of this machine only"):
        build(GOLDEN / "glm", tmp_path / "e" / "e", plan=options(capabilities=("8.9",)))
    assert not (tmp_path / "e").exists()


def test_without_a_gpu_nothing_is_begun(tmp_path, monkeypatch):
    def missing(name):
        raise OSError("no libcuda.so.1")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(BuildError, match=r"no libcuda.*; install it"):
        build(GOLDEN / "glm", tmp_path / "e" / "e", plan=options())
    assert not (tmp_path / "e").exists()
