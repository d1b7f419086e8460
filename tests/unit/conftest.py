"""What unit tests of several rooms share."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from engines.build import build
from engines.manifest import Manifest
from engines.serve.runtime.ort import OrtRuntime
from tests.unit.gpu.emulated_runtime import open_emulated_runtime
from tests.unit.gpu.emulator import compile_emulated

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
GLM_CASES = ("glm", "glm-edge-tied")


@pytest.fixture(scope="session")
def emulated(tmp_path_factory):
    if shutil.which("g++") is None:
        pytest.skip("executing the CUDA C source on the CPU needs g++, which is not installed")
    return compile_emulated(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Engine folders of the golden checkpoints, built once, by name."""
    root = tmp_path_factory.mktemp("engines")
    for name in GLM_CASES:
        build(GOLDEN / name, root / name, dialects=("fused", "standard"))
    return root


@pytest.fixture(scope="session")
def golden():
    """The reference's arrays by name; `sure` tells how many greedy tokens rounding cannot change."""
    cases = {}
    for name in GLM_CASES:
        with np.load(GOLDEN / name / "golden.npz") as arrays:
            case = dict(arrays)
        close = case["margins"] < 1e-2
        case["sure"] = np.where(close.any(axis=1), close.argmax(axis=1), close.shape[1])
        case["prompts"] = [
            ids[:n].tolist() for ids, n in zip(case["input_ids"], case["lengths"], strict=True)
        ]
        cases[name] = case
    return cases


@pytest.fixture
def open_emulated(folders, emulated, tmp_path):
    """open_emulated(name, slots, capacity) → TrtRuntime of a golden checkpoint on an emulated GPU."""

    def open_(name="glm", slots=8, capacity=127, **options):
        return open_emulated_runtime(
            emulated, folders / name, tmp_path, slots=slots, capacity=capacity, **options
        )

    return open_


@pytest.fixture
def open_ort(folders):
    """open_ort(name, slots, capacity) → OrtRuntime of a golden checkpoint."""

    def open_(name="glm", slots=8, capacity=128, **options):
        folder = folders / name
        return OrtRuntime.open(folder, Manifest.load(folder), slots=slots, capacity=capacity, **options)

    return open_
