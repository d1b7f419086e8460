"""Waiting for the GPU, but not for ever."""

import ctypes
import time
from collections.abc import Callable

from engines.errors import StepHung
from engines.serve.runtime.trt.device import Device
from schemas.errors import AutoGLMError

_POLL = 20e-6  # seconds
_LAST = 5.0  # seconds that the last steps may take when everything is given back


def wait_until(
    done: Callable[[], bool],
    limit: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return once `done` says so. limit: seconds. Raises StepHung after that, and whatever `done` raises."""
    if done():
        return
    deadline = clock() + limit
    while not done():
        if clock() > deadline:
            raise StepHung(
                f"the GPU has not finished a step after {limit:g} s; restart, then see dmesg for Xid"
            )
        sleep(_POLL)


def answers(device: Device, limit: float = _LAST) -> bool:
    """Whether the device does what it is asked, in `limit` seconds or five; bound to this thread if so."""
    try:
        device.bind()
        wait_until(device.record().query, min(limit, _LAST))
    except AutoGLMError:
        return False
    return True


def keep_for_ever(holder: object) -> None:
    """What destructors ask of a GPU that failed would wait for it, or end the process."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(holder))
