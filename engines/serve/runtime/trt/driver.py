"""Calls of the CUDA driver API that PyCUDA does not have: UUIDs, graphs, the end of another thread's context.

Signatures: CUDA Driver API, "Device", "Context", "Stream" and "Graph Management".
"""

import ctypes
from collections.abc import Callable
from functools import cache

from engines.errors import DeviceNotFound, GpuFailed

_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other engines' threads may allocate meanwhile
CALLS = (
    "cuCtxDestroy_v2",
    "cuDeviceGetUuid_v2",
    "cuStreamBeginCapture_v2",
    "cuStreamEndCapture",
    "cuGraphInstantiateWithFlags",
    "cuGraphUpload",
    "cuGraphLaunch",
    "cuGraphDestroy",
    "cuGetErrorName",
)


def device_uuid(ordinal: int) -> str:
    """Of a visible device, as nvidia-smi writes it."""
    raw = (ctypes.c_ubyte * 16)()
    _call("cuDeviceGetUuid_v2", raw, ctypes.c_int(ordinal))
    text = bytes(raw).hex()
    return "GPU-" + "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def destroy_context(handle: int) -> None:
    """With everything in it."""
    _call("cuCtxDestroy_v2", ctypes.c_void_p(handle))


def capture(stream: int, work: Callable[[], None]) -> Callable[[], None]:
    """A callable that enqueues again what `work` enqueues on `stream`. Lives as long as the context."""
    handle, graph, executable = ctypes.c_void_p(stream), ctypes.c_void_p(), ctypes.c_void_p()
    _call("cuStreamBeginCapture_v2", handle, ctypes.c_int(_THREAD_LOCAL))
    try:
        work()
    finally:
        _call("cuStreamEndCapture", handle, ctypes.byref(graph))
    _call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
    _call("cuGraphDestroy", graph)
    _call("cuGraphUpload", executable, handle)

    def replay() -> None:
        _call("cuGraphLaunch", executable, handle)

    return replay


def _call(name: str, *arguments: object) -> None:
    code = getattr(_library(), name)(*arguments)
    if code:
        text = ctypes.c_char_p()
        _library().cuGetErrorName(code, ctypes.byref(text))
        raise GpuFailed(f"{name}: {(text.value or str(code).encode()).decode()}")


@cache
def _library() -> ctypes.CDLL:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise DeviceNotFound(f"the NVIDIA driver is not installed ({error})") from error
