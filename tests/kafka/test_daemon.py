"""The daemon as an operator runs it: a process of its own, good and bad requests, signals."""

import asyncio
import json
import time

import pytest
from aiokafka import AIOKafkaConsumer
from typer.testing import CliRunner

from daemon.cli import app
from daemon.demo.process import DaemonProcess
from daemon.kafka.client import Client
from tests.kafka.traffic import create_topic, put, read, settings

POISON = """
from openautoglm import register_tool

@register_tool(description="Return what no JSON can hold.", read_only=True)
def poison() -> object:
    return {"loop": object(), "number": float("nan"), "text": "\\ud800"}
"""


def environment(kafka, tmp_path, **more):
    """What makes `autoglm run` use the topics of one test."""
    fields = (
        "bootstrap_servers",
        "group_id",
        "reply_topic",
        "dead_letter_topic",
        "metrics_topic",
        "control_topic",
    )
    values = {f"AUTOGLM_KAFKA__{field.upper()}": getattr(kafka, field) for field in fields}
    return {
        **values,
        "AUTOGLM_KAFKA__REQUEST_TOPICS": json.dumps(kafka.request_topics),
        "AUTOGLM_KAFKA__SESSION_TIMEOUT_SECONDS": str(kafka.session_timeout_seconds),
        "AUTOGLM_METRICS__PORT": "0",
        "STATE_DIRECTORY": str(tmp_path),
        "AUTOGLM_TOOLS__MODULES": '["daemon.demo.desk"]',
        **more,
    }


@pytest.fixture(scope="module")
def kafka(broker):
    return settings(broker.bootstrap_servers, f"daemon{time.time_ns()}")


@pytest.fixture(scope="module")
def daemon(broker, kafka, tmp_path_factory):
    folder = tmp_path_factory.mktemp("state")
    (folder / "poison.py").write_text(POISON)
    asyncio.run(
        create_topic(
            broker.bootstrap_servers, kafka.request_topics[0], 2, **{"max.message.bytes": "20000000"}
        )
    )
    tools = json.dumps(["daemon.demo.desk", str(folder / "poison.py")])
    with DaemonProcess(environment(kafka, folder, AUTOGLM_TOOLS__MODULES=tools)) as process:
        yield process
    assert process.process.returncode == 0


async def ask(kafka, value, headers=None, key=None):
    """The deltas and the terminal reply; fails when a second reply comes."""
    async with Client(kafka.connection(), kafka.request_topics[0], kafka.reply_topic) as client:
        mine = await client.send(value, headers=headers, key=key)
        deltas, replies = [], []
        async for correlation, record in client.records(20.0):
            if correlation == mine:
                (replies if record.type == "reply" else deltas).append(record)
            if replies:
                break
        async for correlation, record in client.records(0.5):
            assert correlation != mine, record
        assert len(replies) == 1
        return deltas, replies[0]


async def answers(kafka, correlation):
    """The values on the reply topic that answer `correlation`; waits for the first one."""
    for _ in range(60):
        found = await read(kafka.bootstrap_servers, kafka.reply_topic, 1)
        mine = [json.loads(r.value) for r in found if dict(r.headers).get("correlation-id") == correlation]
        if mine:
            return mine
    raise AssertionError(f"{correlation!r} was not answered")


BAD = {
    "not json": (b"nope", {}, "invalid_json"),
    "not utf-8": (b"\xff\xfe\x00", {}, "invalid_json"),
    "wrong type": ({"query": 3}, {}, "invalid_request"),
    "unknown field": ({"query": "a", "querry": "b"}, {}, "invalid_request"),
    "unknown task": ({"query": "a", "task": "fly"}, {}, "unknown_task"),
    "unknown tool": ({"query": "a", "tools": ["fly"]}, {}, "unknown_tool"),
    "unknown model": ({"query": "a", "model": "glm-9000"}, {}, "unknown_model"),
    "10 MB": ({"query": "a" * 10_000_000}, {}, "payload_too_large"),
    "long prompt": ({"query": "a b " * 20_000}, {}, "prompt_too_long"),
    "late": ({"query": "a"}, {"deadline": "2020-01-01T00:00:00Z"}, "deadline_exceeded"),
    "no such topic": ({"query": "a"}, {"reply-topic": "nowhere"}, "unknown_reply_topic"),
    "bad schema": (
        {"query": "a", "tools": [], "response_format": {"type": "regex", "regex": "("}},
        {},
        "unsupported_schema",
    ),
}


@pytest.mark.parametrize("case", BAD)
async def test_bad_input_gets_one_error_reply_and_the_next_request_is_served(daemon, kafka, case):
    value, headers, code = BAD[case]
    if isinstance(value, dict) and len(str(value)) > 1_000_000:
        value = json.dumps(value).encode()
        await put(
            kafka.bootstrap_servers, kafka.request_topics[0], [(None, value, ((("correlation-id"), b"big"),))]
        )
        replies = await answers(kafka, b"big")
        assert [reply["error"]["code"] for reply in replies] == [code]
    else:
        _, reply = await ask(kafka, value, headers)
        assert (reply.error.code, reply.message) == (code, None)
        assert reply.status in {"rejected", "expired"}
        assert reply.error.message
    _, reply = await ask(kafka, {"query": "hello"})
    assert reply.status == "ok"


async def test_what_cannot_be_decoded_is_a_dead_letter(daemon, kafka):
    await ask(kafka, b"{broken", {"correlation-id": "broken"})
    letters = await read(kafka.bootstrap_servers, kafka.dead_letter_topic, 1)
    mine = [letter for letter in letters if dict(letter.headers).get("correlation-id") == b"broken"]
    assert [letter.value for letter in mine] == [b"{broken"]
    assert dict(mine[0].headers)["kafka_dlt-exception-code"] == b"invalid_json"


async def test_headers_in_any_encoding_do_no_harm(daemon, kafka):
    headers = (
        ("correlation-id", b"odd"),
        ("traceparent", b"\xff\xfe"),
        ("deadline", b"\x00"),
        ("priority", b"\xff"),
    )
    await put(kafka.bootstrap_servers, kafka.request_topics[0], [(b"\xff", b'{"query": "hello"}', headers)])
    assert [reply["status"] for reply in await answers(kafka, b"odd")] == ["ok"]


async def test_a_poisoned_tool_result_is_told_to_the_model(daemon, kafka):
    choice = {"type": "function", "function": {"name": "poison"}}
    _, reply = await ask(kafka, {"query": "go", "tools": ["poison"], "tool_choice": choice})
    assert reply.tools[0].name == "poison"
    assert reply.tools[0].outcome == "error"
    assert "error" in reply.tools[0].result
    assert reply.status == "ok"


async def test_deltas_are_numbered_and_make_up_the_answer(daemon, kafka):
    deltas, reply = await ask(kafka, {"query": "hello", "stream": True})
    assert [delta.index for delta in deltas] == list(range(len(deltas)))
    assert "".join(delta.content or "" for delta in deltas) == reply.message.content != ""


async def test_a_conversation_is_remembered_by_its_key(daemon, kafka):
    wanted = {"tools": [], "memory": True}
    _, first = await ask(kafka, {"query": "hello", **wanted}, key="remembered")
    _, second = await ask(kafka, {"query": "hello", **wanted}, key="remembered")
    _, other = await ask(kafka, {"query": "hello", **wanted}, {"tenant": "else"}, key="remembered")
    assert [first.status, second.status, other.status] == ["ok"] * 3
    assert other.usage.prompt_tokens == first.usage.prompt_tokens < second.usage.prompt_tokens


async def test_texts_become_vectors(daemon, kafka):
    _, reply = await ask(kafka, {"task": "embed", "texts": ["hello", "退款", "hello"]})
    assert reply.status == "ok" and reply.structured["pooling"] == "last"
    one, other, again = reply.structured["vectors"]
    assert len(one) == reply.structured["dimensions"] > 1
    assert abs(sum(x * x for x in one) - 1) < 1e-4
    assert one == pytest.approx(again, abs=1e-4) and one != pytest.approx(other, abs=1e-2)


def test_a_question_on_the_command_line_is_answered(daemon, kafka, tmp_path, monkeypatch):
    for variable, value in environment(kafka, tmp_path).items():
        monkeypatch.setenv(variable, value)
    for options in ([], ["--stream"]):
        done = CliRunner().invoke(app, ["ask", "hello", "--tools", "", *options])
        assert (done.exit_code, done.stderr) == (0, "") and done.stdout.strip()


def test_a_whole_request_on_the_command_line(daemon, kafka, tmp_path, monkeypatch):
    for variable, value in environment(kafka, tmp_path).items():
        monkeypatch.setenv(variable, value)
    fields = '{"task": "classify", "labels": ["complaint", "praise"]}'
    done = CliRunner().invoke(app, ["ask", "the parcel never came", "--key", "k", "--fields", fields])
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout)["label"] in ("complaint", "praise")
    for wrong in ("{", "[]"):
        done = CliRunner().invoke(app, ["ask", "hello", "--fields", wrong])
        assert done.exit_code == 2 and "--fields" in done.stderr


async def test_metrics_are_published(daemon, kafka):
    consumer = AIOKafkaConsumer(
        kafka.metrics_topic, bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        record = await asyncio.wait_for(consumer.getone(), 20)
    finally:
        await consumer.stop()
    assert json.loads(record.value)["type"] == "metrics"
