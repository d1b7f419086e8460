"""Python imports this at its start when its folder is on PYTHONPATH: a wall clock that a file sets wrong.

Only `time.time` and `time.time_ns` jump. libfaketime would reach native code as well, but it breaks waits on
the monotonic clock (`time.sleep` fails with EINVAL under CPython 3.11, waits with a timeout hang), which no
real jump does.
"""

import os
import time
from pathlib import Path

_OFFSET = Path(os.environ["FAULTS_CLOCK"])
_time_ns = time.time_ns


def _jumped_ns() -> int:
    return _time_ns() + int(_OFFSET.read_text() or 0) * 10**9


time.time_ns = _jumped_ns
time.time = lambda: _jumped_ns() / 1e9
