import os
import subprocess
import sys
from importlib.metadata import version

import pytest
from aiokafka.errors import KafkaConnectionError

from daemon import cli


def test_a_failure_of_kafka_is_one_sentence(monkeypatch, capsys):
    def fail():
        raise KafkaConnectionError("Unable to bootstrap")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1
    assert "Unable to bootstrap" in line and "`kafka.bootstrap_servers`" in line


def test_an_answer_that_the_terminal_cannot_write_is_escaped():
    program = "from daemon import cli; cli.app = lambda: print('您 é'); cli.main()"
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert done.stdout == b"\\u60a8 \xe9\n"


def test_the_version_is_the_installed_one(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["autoglm", "--version"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, capsys.readouterr().out) == (0, f"autoglm {version('open-autoglm')}\n")
