"""Several engines in a daemon on a real broker: routes, control records, reloads, under load."""

import asyncio
import json
import signal
import time

import pytest

from daemon.bundled import CHECKPOINT
from daemon.demo.process import DaemonProcess
from daemon.kafka.client import Client
from engines.build import build
from tests.kafka.test_daemon import ask, environment
from tests.kafka.traffic import create_topic, put, settings

TWO = """
[engines.main]
path = "{root}/fp32"
slots = 8

[engines.spare]
path = "{root}/int8"
slots = 4

[[routes]]
tasks = ["classify"]
engine = "spare"
fallback = "main"

[[routes]]
engine = "main"
"""
ONE = """
[engines.main]
path = "{root}/int8"
slots = 8
"""


@pytest.fixture(scope="module")
def kafka(broker):
    return settings(broker.bootstrap_servers, f"engines{time.time_ns()}")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("engines")
    for precision in ("fp32", "int8"):
        build(CHECKPOINT, root / precision, precision=precision)
    return root


@pytest.fixture
def daemon(broker, kafka, root):
    config = root / "autoglm.toml"
    config.write_text(TWO.format(root=root))
    asyncio.run(create_topic(broker.bootstrap_servers, kafka.request_topics[0], 2))
    more = {"AUTOGLM_CONFIG": str(config), "AUTOGLM_LOG__FORMAT": "json"}
    with DaemonProcess(environment(kafka, root, **more), log=root / "log") as process:
        yield process
    assert process.process.returncode == 0


def said(root, event):
    """What the daemon's log says of `event`."""
    lines = [json.loads(line) for line in (root / "log").read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


async def until_said(root, event, count):
    for _ in range(400):
        if len(found := said(root, event)) >= count:
            return found[-1]
        await asyncio.sleep(0.05)
    raise AssertionError(f"{event!r} was not said {count} times")


async def test_engines_are_routed_switched_and_retired_while_requests_come(daemon, kafka, root):
    labels = {"query": "fine", "task": "classify", "labels": ["good", "bad"]}
    for value, model in (
        ({"query": "hello"}, "main"),
        (labels, "spare"),
        ({**labels, "model": "main"}, "main"),
    ):
        _, reply = await ask(kafka, value)
        assert (reply.status, reply.model) == ("ok", model)
    _, reply = await ask(kafka, {"query": "hello", "model": "glm-9000"})
    assert (reply.status, reply.error.code) == ("rejected", "unknown_model")
    assert "use one of: main, spare" in reply.error.message

    order = {"type": "load_engine", "name": "main", "path": str(root / "int8"), "slots": 8}
    async with Client(kafka.connection(), kafka.request_topics[0], kafka.reply_topic) as client:
        sent, replies = set(), {}

        async def traffic(done):
            while not done.is_set():
                sent.add(await client.send({"query": f"hello {len(sent)}"}, key=f"k{len(sent) % 16}"))
                await asyncio.sleep(0.01)

        done = asyncio.Event()
        sending = asyncio.create_task(traffic(done))
        await put(kafka.bootstrap_servers, kafka.control_topic, [(None, json.dumps(order).encode())])
        loaded = await until_said(root, "engines", 2)  # the first time at the start
        assert (loaded["loaded"], loaded["retired"]) == (["main"], [])
        await asyncio.sleep(0.5)
        done.set()
        await sending
        async for correlation, reply in client.records(60.0):
            if correlation in sent:
                replies.setdefault(correlation, []).append(reply)
            if len(replies) == len(sent):
                break
    assert set(replies) == sent
    assert {(len(found), found[0].status, found[0].model) for found in replies.values()} == {
        (1, "ok", "main")
    }

    config = root / "autoglm.toml"
    config.write_text("[engines\n")
    daemon.process.send_signal(signal.SIGHUP)
    assert "not valid TOML" in (await until_said(root, "engines_unchanged", 1))["error"]
    config.write_text(ONE.format(root=root))
    daemon.process.send_signal(signal.SIGHUP)
    retired = await until_said(root, "engines", 3)
    assert (retired["retired"], retired["serving"]) == (["spare"], ["main"])
    _, reply = await ask(kafka, labels)
    assert (reply.status, reply.model) == ("ok", "main")
    _, reply = await ask(kafka, {"query": "hello", "model": "spare"})
    assert reply.error.code == "unknown_model"
