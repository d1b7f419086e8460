"""Signals and failures that come before the daemon serves: a process of its own, no broker."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

SECONDS = 60.0
ENDLESS_LOAD = """
import threading
from engines.serve.engine import Engine

def load(*_, **__):
    print("loading", flush=True)
    threading.Event().wait()

Engine.load = load
"""
FAILING_LOAD = """
import atexit, threading
from engines.errors import StepHung
from engines.serve.engine import Engine

def load(*_, **__):
    raise StepHung

Engine.load = load
atexit.register(threading.Event().wait)  # as a driver waits for a GPU that hangs
"""


@pytest.fixture
def start(tmp_path):
    """start(servers, **environment) → `autoglm run` as a process, its output in `tmp_path / "log"`."""
    started = []

    def start_(servers, **more):
        environment = {
            **os.environ,
            "AUTOGLM_KAFKA__BOOTSTRAP_SERVERS": servers,
            "AUTOGLM_METRICS__PORT": "0",
            **more,
        }
        with (tmp_path / "log").open("wb") as log:
            command = [sys.executable, "-m", "daemon.cli", "run"]
            started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        return started[-1]

    yield start_
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def told(tmp_path):
    """told(process, text) returns when the process has written it."""

    def told_(process, text):
        give_up = time.monotonic() + SECONDS
        while text not in (tmp_path / "log").read_text():
            assert process.poll() is None and time.monotonic() < give_up, (tmp_path / "log").read_text()
            time.sleep(0.05)

    return told_


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(SECONDS)
        yield server


def test_a_signal_ends_the_wait_for_a_broker_that_says_nothing(start, listener):
    process = start(f"127.0.0.1:{listener.getsockname()[1]}")
    connection, _ = listener.accept()
    process.send_signal(signal.SIGINT)
    assert process.wait(SECONDS / 2) == 0
    connection.close()


def test_a_signal_ends_the_wait_for_a_broker_that_is_away(start, told):
    with socket.socket() as bound:  # and nobody listens
        bound.bind(("127.0.0.1", 0))
        process = start(f"127.0.0.1:{bound.getsockname()[1]}")
        told(process, "kafka_not_reached")
        told(process, "Connect call failed")
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS / 2) == 0


def test_a_second_signal_ends_a_load_that_never_ends(start, told, tmp_path):
    module = tmp_path / "endless.py"
    module.write_text(ENDLESS_LOAD)
    process = start("127.0.0.1:9", AUTOGLM_TOOLS__MODULES=f'["{module}"]')
    told(process, "loading")
    process.send_signal(signal.SIGTERM)
    told(process, "stopping before serving began")
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS / 2) == 128 + signal.SIGTERM
    assert "forced to stop before serving began" in (tmp_path / "log").read_text()


def test_a_gpu_that_fails_while_an_engine_is_loaded_ends_the_process(start, tmp_path):
    module = tmp_path / "failing.py"
    module.write_text(FAILING_LOAD)
    process = start("127.0.0.1:9", AUTOGLM_TOOLS__MODULES=f'["{module}"]')
    assert process.wait(SECONDS / 2) == 74
    assert "autoglm: The GPU does not finish a step" in (tmp_path / "log").read_text()
