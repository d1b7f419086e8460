import json

import pytest
from structlog.testing import capture_logs

from daemon.agent.agent import Agent
from daemon.errors import InvalidJson, InvalidRequest, PayloadTooLarge, UnknownReplyTopic
from daemon.handler import Handler, decode
from daemon.kafka.record import Incoming
from daemon.kafka.settings import KafkaSettings
from daemon.ops.metrics import Metrics
from daemon.routing.route import Route
from daemon.routing.router import Router
from daemon.settings import LimitSettings
from daemon.tools.registry import Registry
from engines.serve.pool.pool import Pool

LONG = "k" * 900_000


def test_a_good_request_is_decoded():
    assert decode(b'{"query": "\xe4\xbd\xa0\xe5\xa5\xbd"}', 1000).query == "你好"


@pytest.mark.parametrize(
    "value",
    [b"", b"nope", b"\xff\xfe{", b'{"query": "a"', '{"query": "a"}'.encode("utf-16"), b"[" * 5000],
)
def test_what_is_no_json_is_said_to_be_none(value):
    with pytest.raises(InvalidJson, match="JSON"):
        decode(value, 10_000)


@pytest.mark.parametrize("value", [b"[]", b"null", b'"text"', b"3"])
def test_what_is_no_object_is_not_a_request(value):
    with pytest.raises(InvalidRequest):
        decode(value, 1000)


def test_a_wrong_field_is_named_and_many_are_counted():
    body = {"query": 3, "tools": "all", "stream": "maybe", "labels": [1], "max_tokens": "x"}
    with pytest.raises(InvalidRequest, match=r"query: .*tools: .* and \d+ more; see schemas/json"):
        decode(json.dumps(body).encode(), 1000)


def test_size_is_checked_before_anything_is_read():
    with pytest.raises(PayloadTooLarge, match=r"2000 bytes.*request_bytes"):
        decode(b"x" * 2000, 1000)


@pytest.mark.parametrize(
    ("body", "code", "remedy"),
    [
        ({"query": "x", LONG: 1}, "invalid_request", "see schemas/json/request.schema.json."),
        ({"query": "x", "task": LONG}, "unknown_task", "extract, summarize"),
        ({"query": "x", "model": LONG}, "unknown_model", "use one of: m."),
        ({"query": "x", "tools": [LONG]}, "unknown_tool", "none is registered."),
    ],
)
async def test_what_a_refusal_quotes_leaves_room_for_the_remedy(body, code, remedy):
    """Else the reply may be larger than its topic takes, and the caller never learns what was wrong."""
    models = Router(Pool(), [Route(engine="m", models=["m"])])
    handler = Handler(Agent(models, Registry()), Metrics("one"), KafkaSettings(), LimitSettings())
    record = Incoming("requests", 0, 7, None, json.dumps(body).encode(), (), 0)
    with capture_logs() as lines:
        reply, *_ = await handler(record, None)
    error = json.loads(reply.value)["error"]
    assert error["code"] == code and len(error["message"]) < 3_000 and remedy in error["message"]
    assert all(len(line.get("error", "")) < 3_000 for line in lines)


def test_a_request_refused_elsewhere_is_counted_and_logged_as_any_other():
    metrics = Metrics("one")
    handler = Handler(None, metrics, KafkaSettings(), LimitSettings())
    record = Incoming("requests", 0, 7, None, b'{"id": "a", "query": "x"}', (), 0)
    with capture_logs() as lines:
        handler.refused(record, UnknownReplyTopic("nowhere"))
    assert metrics.snapshot().requests_total == {"rejected": 1}
    [line] = [line for line in lines if line["event"] == "request"]
    assert (line["id"], line["status"], line["code"]) == ("a", "rejected", "unknown_reply_topic")
