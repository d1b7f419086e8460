"""Whole daemons and their brokers: which settings these refuse, and who is ready when they are away."""

import json
import time
import urllib.error
import urllib.request

import pytest

from daemon.demo.process import DaemonProcess
from daemon.kafka.embedded import EmbeddedBroker
from tests.kafka.test_daemon import environment
from tests.kafka.traffic import settings

SECONDS = 60.0


@pytest.fixture
def frail_broker(tmp_path):
    with EmbeddedBroker(tmp_path / "kafka") as running:
        yield running


def events(log):
    return [line["event"] for line in map(json.loads, log.read_text().splitlines())]


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def until(status, url):
    give_up = time.monotonic() + SECONDS
    while (found := get(url))[0] != status:
        assert time.monotonic() < give_up, found
        time.sleep(0.1)
    return found[1]


def test_a_timeout_that_the_brokers_refuse_ends_a_daemon_as_any_wrong_setting(broker, name, tmp_path):
    kafka, log = settings(broker.bootstrap_servers, name), tmp_path / "log"
    wrong = {"AUTOGLM_KAFKA__TRANSACTION_TIMEOUT_SECONDS": "10000"}
    with DaemonProcess(environment(kafka, tmp_path, **wrong), log=log) as daemon:
        assert daemon.process.wait(SECONDS) == 78
    assert "10000 s as `kafka.transaction_timeout_seconds`; stay below" in log.read_text()


@pytest.mark.timeout(300)  # it waits until a broker that was started anew has let the daemon in again
def test_a_daemon_is_not_ready_while_its_brokers_are_away(frail_broker, name, tmp_path):
    kafka, log = settings(frail_broker.bootstrap_servers, name), tmp_path / "log"
    with DaemonProcess(environment(kafka, tmp_path), log=log):
        serving = next(line for line in map(json.loads, log.read_text().splitlines()) if "metrics" in line)
        live, ready = (serving["metrics"].replace("metrics", page) for page in ("livez", "readyz"))
        until(200, ready)
        frail_broker.stop()
        until(503, ready)
        while "kafka_silent" not in events(log):  # the test's timeout bounds it
            time.sleep(0.1)
        assert "no broker has answered" in get(ready)[1]
        assert get(live) == (200, "ok\n")
        frail_broker.start()
        until(200, ready)
        while "kafka_heard_again" not in events(log):  # the test's timeout bounds it
            time.sleep(0.1)
    told = [event for event in events(log) if event in ("kafka_silent", "kafka_heard_again")]
    assert told == ["kafka_silent", "kafka_heard_again"]
