"""How the process ends."""

import contextlib
import logging
import os
import sys
from typing import NoReturn

from engines.errors import GpuFailed
from schemas.errors import AutoGLMError, ErrorCode

EXIT_CONFIGURATION = 78  # EX_CONFIG of sysexits.h: systemd does not restart on it


def exit_code(error: BaseException) -> int:
    """Of a process that ends because of `error`: 74 when the GPU failed, 78 for a wrong setting, else 1."""
    if isinstance(error, GpuFailed):
        return error.exit_code
    wrong = isinstance(error, AutoGLMError) and error.code is ErrorCode.CONFIGURATION
    return EXIT_CONFIGURATION if wrong else 1


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
