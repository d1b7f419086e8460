"""Tests that need a GPU: PyCUDA, a TensorRT and a driver. Elsewhere they are skipped, each saying why.

AUTOGLM_TEST_DEVICE: index or UUID of the GPU. AUTOGLM_TEST_GPU: set, and a missing one is a failure.
"""

import os
from pathlib import Path

import pytest

from engines.build import build
from engines.build.plan import PlanOptions
from engines.errors import AutoGLMError
from engines.manifest import Manifest
from engines.serve.runtime.trt.cuda import CudaDevice
from engines.serve.runtime.trt.runtime import TrtRuntime
from tests.bench.random_model import EDGE, write_checkpoint
from tests.gpu.measures import Line, bytes_per_step, table

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
FLAVOURS = ("tensorrt", "tensorrt_rtx")
DEVICE = os.environ.get("AUTOGLM_TEST_DEVICE")
REQUIRED = "AUTOGLM_TEST_GPU" in os.environ


@pytest.fixture(scope="session")
def gpu():
    """Its name and compute capability. Without one, skips, or fails where one is required."""
    try:
        device = CudaDevice(DEVICE)
    except AutoGLMError as error:
        (pytest.fail if REQUIRED else pytest.skip)(str(error))
    found = device.name, device.capability
    device.close()
    return found


@pytest.fixture
def device(gpu):
    opened = CudaDevice(DEVICE)
    yield opened
    opened.close()


@pytest.fixture(scope="session", params=FLAVOURS)
def flavour(request, gpu):
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    return request.param


@pytest.fixture(scope="session")
def golden_folders(flavour, tmp_path_factory):
    """Engine folders of the golden checkpoints in bfloat16, built when first asked for."""
    root = tmp_path_factory.mktemp(flavour)

    def folder(name):
        build(GOLDEN / name, root / name, plan=PlanOptions(8, 128, 32, flavour=flavour))
        return root / name

    return folder


@pytest.fixture
def open_golden(golden_folders):
    """open_golden(name) → TrtRuntime of a golden checkpoint."""
    opened = []

    def open_(name):
        folder = golden_folders(name)
        opened.append(TrtRuntime.open(folder, Manifest.load(folder), device=DEVICE))
        return opened[-1]

    yield open_
    for runtime in opened:
        runtime.close()


@pytest.fixture(scope="session")
def edge(flavour, tmp_path_factory):
    """TrtRuntime of random weights in the shape of GLM-Edge-1.5B, int4, and the bytes that a step reads."""
    checkpoint, folder = tmp_path_factory.mktemp("checkpoint"), tmp_path_factory.mktemp("edge")
    write_checkpoint(checkpoint, EDGE)
    build(checkpoint, folder, precision="int4", plan=PlanOptions(16, 1024, 128, flavour=flavour))
    manifest = Manifest.load(folder)
    runtime = TrtRuntime.open(folder, manifest, device=DEVICE)
    yield runtime, bytes_per_step(manifest.files["model.plan"].bytes, manifest.sizes)
    runtime.close()


LINES = pytest.StashKey[list]()


@pytest.fixture
def report(request):
    """report(what, value, goal, met): a line of the table that `make gpu-check` prints."""
    return lambda *line: request.config.stash.setdefault(LINES, []).append(Line(*line))


def pytest_terminal_summary(terminalreporter, config):
    if lines := config.stash.get(LINES, []):
        terminalreporter.section("measured on this GPU")
        for line in table(lines):
            terminalreporter.write_line(line)
