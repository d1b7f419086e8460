"""A child process that cannot outlive us."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

# Runs in a fresh interpreter that becomes the program: code between fork and exec of a process with
# threads could hang on a lock. The kernel sends the signal when the *thread* that started us ends; the
# second look at the parent catches one that died before the wish was registered.
_LAUNCHER = """
import ctypes, os, sys
parent = int(sys.argv[1])
if sys.platform == "linux":
    PR_SET_PDEATHSIG, SIGKILL = 1, 9
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL)
if os.getppid() != parent:
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class BoundProcess:
    """A program in its own session, its output in a file, killed by the kernel when we die (Linux)."""

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        self._command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command]
        self._log = log
        self._env = env
        self._started = threading.Event()
        self._failure: OSError | None = None
        self._process: subprocess.Popen[bytes] | None = None
        # The thread must live as long as the program, see above; a daemon thread ends with us.
        self._thread = threading.Thread(target=self._watch, name="bound-process", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure

    def _watch(self) -> None:
        try:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=dict(self._env),
                    start_new_session=True,  # Ctrl-C in the terminal is ours to handle, not the program's
                )
        except OSError as error:
            self._failure = error
            return
        finally:
            self._started.set()
        self._process.wait()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def stop(self, grace_seconds: float) -> None:
        """SIGTERM, and SIGKILL when that was not enough; returns when the program is gone."""
        self._signal(signal.SIGTERM)
        self._thread.join(grace_seconds)
        self.kill()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self._thread.join()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self.running:
            self._process.send_signal(number)
