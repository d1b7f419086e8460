"""What unit tests of several rooms share."""

import shutil

import pytest

from tests.unit.gpu.emulator import compile_emulated


@pytest.fixture(scope="session")
def emulated(tmp_path_factory):
    if shutil.which("g++") is None:
        pytest.skip("executing the CUDA C source on the CPU needs g++, which is not installed")
    return compile_emulated(tmp_path_factory.mktemp("kernels"))
