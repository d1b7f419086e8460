"""The kernels compile for every generation of GPUs that is promised, without a GPU."""

import pytest

from engines.errors import KernelError
from engines.serve.kernels import nvrtc
from engines.serve.kernels.sources import CAPABILITY, KERNELS, fingerprint, ptx, source


def test_the_shipped_ptx_is_of_the_source_and_for_any_driver_of_cuda_13():
    text = ptx().decode()
    assert fingerprint() in text.splitlines()[0], "the kernels were changed; run `make kernels`"
    assert text.endswith("\0") and text.count("\0") == 1
    assert "\n.version 9.0\n" in text and "\n.target sm_80\n" in text
    assert all(f".entry {name}(" in text for name in KERNELS)
    assert "fma." not in text, "contracted operations round otherwise than the numpy twins do"


@pytest.fixture(scope="module")
def compiler():
    try:
        return nvrtc.version()
    except KernelError as error:
        pytest.skip(str(error))


def test_the_shipped_ptx_is_what_this_compiler_makes(compiler):
    if compiler != "13.0":
        pytest.skip(f"NVRTC 13.0 wrote it, {compiler} is installed")
    code = nvrtc.compile_kernels(source(), CAPABILITY, portable=True)
    assert code.rstrip(b"\0\n") == ptx().partition(b"\n")[2].rstrip(b"\0\n")


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("capability", ["8.0", "8.9", "9.0", "12.0"])
def test_kernels_compile(capability):
    code = nvrtc.compile_kernels(source(), capability)
    assert code.startswith(b"\x7fELF")
    assert all(name.encode() in code for name in KERNELS)


@pytest.mark.usefixtures("compiler")
def test_a_mistake_is_told_in_the_compilers_words():
    with pytest.raises(KernelError, match=r"9\.0.*identifier \"x\" is undefined"):
        nvrtc.compile_kernels("__global__ void f() { x = 1; }", "9.0")


@pytest.mark.usefixtures("compiler")
def test_an_unknown_gpu_is_told():
    with pytest.raises(KernelError, match=r"1\.0"):
        nvrtc.compile_kernels(source(), "1.0")
