"""The daemon as a child process that says when it is ready, the way systemd would run it."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from schemas.errors import AutoGLMError

READY_SECONDS = 60.0
STOP_SECONDS = 30.0


class DaemonDied(AutoGLMError):
    """The daemon ended before it was ready; its last lines above say why."""


class DaemonProcess:
    """`autoglm run` with `environment` on top of this process's own, ready when the `with` block begins.

    `log`: a file that its output is appended to, instead of this process's own output. `ready_seconds`: how
    long it may take to be ready.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        log: Path | None = None,
        ready_seconds: float = READY_SECONDS,
    ) -> None:
        self._environment = dict(environment)
        self._ready_seconds = ready_seconds
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def started(self) -> bool:
        return self._process is not None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("start() first")
        return self._process

    def start(self) -> None:
        """Spawn and wait for `READY=1`. Raises DaemonDied when it ends, or is not ready in time."""
        with (
            tempfile.TemporaryDirectory() as folder,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices,
        ):
            address = str(Path(folder) / "notify")
            notices.bind(address)
            notices.settimeout(0.1)
            environment = {**os.environ, **self._environment, "NOTIFY_SOCKET": address}
            self._process = self._spawn(environment)
            give_up = time.monotonic() + self._ready_seconds
            while time.monotonic() < give_up and self._process.poll() is None:
                try:
                    if b"READY=1" in notices.recv(4096).split(b"\n"):
                        return
                except TimeoutError:
                    continue
        self.kill()
        raise DaemonDied()

    def _spawn(self, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "daemon.cli", "run"]
        if self.log is None:
            return subprocess.Popen(command, env=environment)
        with self.log.open("ab") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def stop(self) -> int:
        """SIGTERM, and SIGKILL when that does not end it. Returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.wait()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
