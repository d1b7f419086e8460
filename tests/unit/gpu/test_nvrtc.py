"""The kernels compile for every generation of GPUs that is promised, without a GPU."""

import pytest

from engines.errors import KernelError
from engines.serve.kernels import nvrtc
from engines.serve.kernels.sources import KERNELS, source


@pytest.fixture(scope="module", autouse=True)
def compiler():
    try:
        return nvrtc.version()
    except KernelError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("capability", ["8.0", "8.9", "9.0", "12.0"])
def test_kernels_compile(capability):
    code = nvrtc.compile_kernels(source(), capability)
    assert code.startswith(b"\x7fELF")
    assert all(name.encode() in code for name in KERNELS)


def test_a_mistake_is_told_in_the_compilers_words():
    with pytest.raises(KernelError, match=r"9\.0.*identifier \"x\" is undefined"):
        nvrtc.compile_kernels("__global__ void f() { x = 1; }", "9.0")


def test_an_unknown_gpu_is_told():
    with pytest.raises(KernelError, match=r"1\.0"):
        nvrtc.compile_kernels(source(), "1.0")
