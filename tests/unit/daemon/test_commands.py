"""What commands that write to Kafka refuse before they do, and say when no broker answers."""

import gc

import pytest
from typer.testing import CliRunner

from daemon.cli import app
from daemon.cli.failures import NoBroker


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("cancel", ""), "must not be empty"),
        (("engine", "retire", ""), "must not be empty"),
        (("engine", "load", "", "/engine"), "must not be empty"),
        (("engine", "load", "main", "/engine", "--memory", "0"), "'--memory': 0 is not a number above 0"),
        (("build", "/model", "--dry-run", "--device-gib", "nan"), "nan is not a number above 0"),
        (("build", "/model", "--dry-run", "--device-gib", "inf"), "inf is not a number above 0"),
        (("ask", "caf\udce9"), "not text in this terminal's encoding"),
        (("ask", "hello", "--key", "\udcff"), "not text in this terminal's encoding"),
        (("ask", "hello", "--fields", '{"user_id": "\\ud800"}'), "surrogates not allowed"),
        (("cancel", "\udcff"), "not text in this terminal's encoding"),
        (("cancel", "r1", "--key", "\udcff"), "not text in this terminal's encoding"),
        (("engine", "load", "main", "/\udcff"), "not text in this terminal's encoding"),
    ],
)
def test_what_no_record_may_say_is_refused(arguments, said):
    done = run(*arguments)
    assert done.exit_code == 2 and said in done.stderr


@pytest.mark.parametrize(
    "arguments", [("ask", "hello"), ("cancel", "r1"), ("engine", "reload"), ("dlq", "list")]
)
def test_without_a_broker_they_say_so_and_leave_no_client_open(monkeypatch, arguments):
    monkeypatch.setenv("AUTOGLM_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    done = run(*arguments)
    assert isinstance(done.exception, NoBroker)
    assert str(done.exception).startswith("No broker answers at 127.0.0.1:1; start one")
    del done
    gc.collect()  # a client that is dropped unclosed warns, which fails the test
