"""How the process ends."""

import contextlib
import logging
import os
import sys
from typing import NoReturn

from engines.errors import GpuFailed


def end(code: int) -> NoReturn:
    """End with this status; at once when it is that of a GPU that failed."""
    if code == GpuFailed.exit_code:
        # What libraries do at the end of a process would wait for the GPU for ever.
        end_at_once(code)
    sys.exit(code)


def end_at_once(code: int) -> NoReturn:
    """End with this status and wait for nothing but what was written."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody reads it any more
            stream.flush()
    logging.shutdown()
    os._exit(code)
