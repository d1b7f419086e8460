"""NVRTC, NVIDIA's run-time compiler of CUDA C, by its C API (CUDA Toolkit documentation, "NVRTC").

It needs neither a GPU nor a driver: pip install nvidia-cuda-nvrtc. Only the package's makers need it, for
`make kernels`; the machine loads what that wrote.
"""

import ctypes
import importlib.util
from functools import cache
from pathlib import Path

from engines.errors import KernelError
from engines.serve.kernels.sources import CAPABILITY, PTX, fingerprint, source

_NAMES = ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so")
# Without contraction the kernels compute bit for bit what their numpy twins do.
_OPTIONS = ("--std=c++17", "--fmad=false")


def compile_kernels(text: str, capability: str, *, portable: bool = False) -> bytes:
    """Machine code (a cubin) of `text` for a compute capability like "8.9".

    portable: PTX instead, which drivers compile for that capability and all later ones.
    Raises KernelError with the compiler's own words, or what to install when there is no compiler.
    """
    nvrtc = _library()
    program = ctypes.c_void_p()
    _check(
        nvrtc, nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None)
    )
    try:
        number, kind = capability.replace(".", ""), "compute" if portable else "sm"
        options = [f"--gpu-architecture={kind}_{number}", *_OPTIONS]
        array = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        if nvrtc.nvrtcCompileProgram(program, len(options), array):
            log = _bytes(nvrtc, "ProgramLog", program).rstrip(b"\0").decode(errors="replace").strip()
            raise KernelError(f"the kernels do not compile for compute capability {capability}: {log}")
        return _bytes(nvrtc, "PTX" if portable else "CUBIN", program)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def version() -> str:
    """Of the compiler, like "13.0". Raises KernelError when there is none."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    nvrtc = _library()
    _check(nvrtc, nvrtc.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return f"{major.value}.{minor.value}"


def _bytes(nvrtc: ctypes.CDLL, what: str, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _check(nvrtc, nvrtc[f"nvrtcGet{what}Size"](program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(nvrtc, nvrtc[f"nvrtcGet{what}"](program, buffer))
    return buffer.raw


def _check(nvrtc: ctypes.CDLL, code: int) -> None:
    if code:
        nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
        raise KernelError(f"the kernel compiler failed: {nvrtc.nvrtcGetErrorString(code).decode()}")


@cache
def _library() -> ctypes.CDLL:
    for name in (*_wheel(), *_NAMES):
        try:
            # The wheels' library does not look beside itself for its other half.
            for half in Path(name).parent.glob("libnvrtc-builtins.so.*") if "/" in name else ():
                ctypes.CDLL(str(half))
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise KernelError


def _wheel() -> list[str]:
    """Where the PyPI wheels of NVIDIA put the library."""
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(folder) for folder in spec.submodule_search_locations or []] if spec else []
    return [
        str(path) for folder in folders for path in sorted(folder.glob("*/lib/libnvrtc.so.*"), reverse=True)
    ]


def _main() -> None:
    """Write the PTX that the package ships."""
    code = compile_kernels(source(), CAPABILITY, portable=True).rstrip(b"\0\n")
    PTX.write_bytes(f"// Written by `make kernels` of source {fingerprint()}\n".encode() + code + b"\n")


if __name__ == "__main__":
    _main()
