"""Apache Kafka as a child process: a single KRaft node on the loopback address."""

import fcntl
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from daemon.kafka.embedded.files import VERSION, default_cache, resolve_jars
from daemon.kafka.embedded.java import find_java
from daemon.kafka.embedded.process import BoundProcess
from daemon.kafka.embedded.properties import CLUSTER_ID, server_properties
from daemon.kafka.errors import BrokerFailed, PortBusy

_LOG4J = Path(__file__).with_name("log4j2.properties")
# Starts fast and stays small: one compiler tier, one collector thread.
_FLAGS = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Xlog:cds=off",
)


class EmbeddedBroker:
    """Starts and stops one broker; the folder `data` keeps everything between starts."""

    def __init__(
        self,
        data: Path,
        *,
        port: int | None = None,
        cache: Path | None = None,
        properties: Mapping[str, str] | None = None,
        java_flags: tuple[str, ...] = (),
        start_seconds: float = 60.0,
    ) -> None:
        """`port`: a fixed one, else a free one, which later starts of this object use again.
        `cache`: folder of the broker's files. `properties`: more lines for server.properties.
        """
        self.port = port
        self.data = data
        self._java_flags = java_flags
        self._cache = cache or default_cache()
        self._properties = dict(properties or {})
        self._start_seconds = start_seconds
        self._process: BoundProcess | None = None
        self._lock: TextIO | None = None

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The broker's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.running else None

    def start(self) -> str:
        """Blocks until the broker accepts connections; returns the bootstrap address.

        Raises PrerequisiteMissing (Java, Maven, download), PortBusy, BrokerFailed.
        """
        find_java()
        resolve_jars(self._cache)
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.data)
        except OSError as error:
            raise BrokerFailed(
                f"The broker's data cannot be kept in {self.data}: {error.strerror}; choose a folder that "
                "this user may write to."
            ) from error
        try:
            self._run()
        except BaseException:
            self.kill()
            raise
        return self.bootstrap_servers

    def _run(self) -> None:
        self.port = _claim(self.port)
        config = self.data / "server.properties"
        config.write_text(server_properties(self.data, self.port, _claim(None), self._properties))
        if not (self.data / "log" / "meta.properties").exists():
            self._format(config)
        self._launch(config)

    def stop(self, grace_seconds: float = 15.0) -> None:
        """Orderly stop; kills the broker when it takes longer than that."""
        if self._process is not None:
            self._process.stop(grace_seconds)
        self._release()

    def kill(self) -> None:
        """SIGKILL, as a crash would: data stays as it is and `start` recovers it."""
        if self._process is not None:
            self._process.kill()
        self._release()

    def _release(self) -> None:
        self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @staticmethod
    def train(cache: Path) -> None:
        """Writes Java's class archive into the cache, which halves the start time. Raises as `start`."""
        archive = _archive(cache)
        if archive.exists():
            return
        # Java writes the file while it exits; the name must not appear before it is complete.
        with tempfile.TemporaryDirectory(prefix="train-", dir=resolve_jars(cache).parent) as folder:
            dump = f"-XX:ArchiveClassesAtExit={folder}/archive"
            trainee = EmbeddedBroker(Path(folder), cache=cache, java_flags=(dump,))
            trainee.start()
            trainee.stop(grace_seconds=60.0)
            (Path(folder) / "archive").rename(archive)

    def _java(self, main: str, *arguments: str, flags: tuple[str, ...] = ()) -> list[str]:
        if _archive(self._cache).exists():
            flags = (f"-XX:SharedArchiveFile={_archive(self._cache)}", *flags)
        classpath = ("-cp", f"{resolve_jars(self._cache)}/*")
        log = f"-Dlog4j2.configurationFile={_LOG4J}"
        return [str(find_java().path), *_FLAGS, *flags, log, *classpath, main, *arguments]

    def _format(self, config: Path) -> None:
        command = self._java("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(config))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BrokerFailed(
                f"The embedded broker's storage could not be formatted: {done.stderr.strip()[-300:]}"
            )

    def _launch(self, config: Path) -> None:
        log = self.data / "broker.log"
        log.unlink(missing_ok=True)
        command = self._java("kafka.Kafka", str(config), flags=self._java_flags)
        self._process = BoundProcess(command, log, os.environ)
        deadline = time.monotonic() + self._start_seconds
        while not _listens(self.port):
            if self._process.running and time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            ended = not self._process.running
            self.kill()
            reason = "ended" if ended else f"did not listen within {self._start_seconds:g} s"
            errors = [line for line in log.read_text(errors="replace").splitlines() if " ERROR " in line]
            said = errors[0][:300] if errors else "no error logged"
            raise BrokerFailed(
                f"The embedded broker {reason}: {said} (see {log}). "
                f"What a newer Kafka than {VERSION} wrote it cannot read: if {self.data} is that, remove it."
            )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _lock(data: Path) -> TextIO:
    lock = (data / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise BrokerFailed(
            f"A broker already runs on {data}: stop it or choose another data folder."
        ) from error
    return lock


def _archive(cache: Path) -> Path:
    return cache / f"java-{find_java().version}.jsa"


def _claim(port: int | None) -> int:
    with socket.socket() as probe:
        # Connections of an earlier broker linger in TIME_WAIT; they are no reason to refuse its port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port or 0))
        except OSError as error:
            raise PortBusy(
                f"Port {port} is taken: stop what listens there or choose another port."
            ) from error
        return int(probe.getsockname()[1])


def _listens(port: int | None) -> bool:
    with socket.socket() as probe:
        # Without a listener a connection to a port of the ephemeral range may meet itself.
        connected = probe.connect_ex(("127.0.0.1", port or 0)) == 0
        return connected and probe.getsockname() != probe.getpeername()
