"""Tasks other than chat, and how to add one."""

import json
import math
import re
import time

import numpy as np
import pytest

from daemon.agent.chat import Conclusion
from daemon.agent.tasks import register_task
from daemon.agent.tasks import texts as texts_module
from daemon.errors import ConfigurationError
from schemas.message import Message
from tests.unit.agent.conftest import engine_of, says

LABELS = ["sad", "happy", "happy end", "happily"]


async def test_classify_tells_label_and_probabilities_from_one_prefill(start, ask):
    agent = start(says("\nhappy<|user|>"))
    reply = await ask(None, agent=agent, task="classify", labels=LABELS)
    assert (reply.task, reply.message.content, reply.finish_reason) == ("classify", "happy", "stop")
    verdict = reply.structured
    assert verdict["label"] == "happy" and list(verdict["probabilities"]) == LABELS
    assert math.isclose(sum(verdict["probabilities"].values()), 1, abs_tol=1e-5)
    assert verdict["probabilities"]["happy"] > 0.9
    assert (reply.usage.completion_tokens, reply.timings.first_token_ms) == (0, None)
    assert reply.usage.prompt_tokens > 0
    stats = engine_of(agent).stats()
    assert stats.tokens_generated == 0 and stats.masks == 0


async def test_the_longer_label_wins_where_the_model_goes_on(ask):
    reply = await ask(says("\nhappy end<|user|>"), task="classify", labels=LABELS)
    assert reply.structured["label"] == "happy end"


async def test_classify_many_texts_at_once(start, ask):
    def script(prompt):
        return "\nhappy<|user|>" if "sun" in prompt.rpartition("<|user|>")[2] else "\nsad<|user|>"

    texts = ["rain", "sun"] * 150
    reply = await ask(None, agent=start(script), query=None, texts=texts, task="classify", labels=LABELS)
    assert [verdict["label"] for verdict in reply.structured] == ["sad", "happy"] * 150
    assert reply.message.content.count("\n") == 299
    assert 0 < reply.timings.prefill_ms <= reply.timings.total_ms
    assert reply.usage.cached_tokens > 0


async def test_embed_gives_a_vector_from_one_prefill(start, ask):
    agent = start(says(""))
    reply = await ask(None, agent=agent, task="embed", query="abcd")
    expected = np.frombuffer(b"abcd", np.uint8).astype(float)
    found = reply.structured
    assert (found["pooling"], found["normalized"], found["dimensions"]) == ("last", True, 4)
    np.testing.assert_allclose(found["vectors"], [expected / np.linalg.norm(expected)], atol=1e-6)
    assert (reply.message.content, reply.usage.completion_tokens) == ("", 0)
    assert engine_of(agent).stats().tokens_generated == 0
    raw = await ask(None, agent=agent, task="embed", query="abcd", normalize=False)
    np.testing.assert_allclose(raw.structured["vectors"], [expected])
    json.loads(reply.model_dump_json())


async def test_embed_many_texts_at_once_in_their_order(start, ask):
    texts = [f"{number:04}" for number in range(300)]
    reply = await ask(None, agent=start(says("")), query=None, texts=texts, task="embed", normalize=False)
    assert [bytes(map(int, vector)).decode() for vector in reply.structured["vectors"]] == texts
    assert reply.usage.prompt_tokens > 300


async def test_an_engine_without_hidden_states_says_so(start, ask):
    agent = start(says("\nHello<|user|>"))
    engine_of(agent)._runtime.hidden_size = None
    reply = await ask(None, agent=agent, task="embed")
    assert (reply.status, reply.error.code, reply.error.retryable) == ("error", "configuration", False)
    assert "build it again" in reply.error.message
    assert (await ask(None, agent=agent)).status == "ok"


@pytest.mark.parametrize(
    "request_",
    [
        {"task": "classify"},
        {"task": "classify", "labels": ["a", "a"]},
        {"task": "classify", "labels": ["a", ""]},
        {"task": "classify", "labels": ["a"], "tools": ["note"]},
        {"task": "summarize", "tools": ["note"]},
        {"task": "extract"},
        {"task": "embed", "tools": ["note"]},
        {"task": "embed", "labels": ["a"]},
        {"task": "embed", "memory": True},
        {"task": "chat", "query": None, "texts": ["a"]},
        {"payload": {"type": "tar", "data": ""}},
        {"payload": {"type": "json", "data": "{"}},
        {"task": "classify", "labels": ["a"], "payload": {"type": "csv", "data": ""}},
    ],
)
async def test_what_a_task_cannot_work_on_is_rejected(ask, request_):
    reply = await ask(says("\nHello<|user|>"), **request_)
    assert (reply.status, reply.error.code) == ("rejected", "invalid_request")


async def test_extract(ask):
    schema = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
    reply = await ask(
        says('\n{"id": "A1"}<|user|>'),
        task="extract",
        response_format={"type": "json_schema", "json_schema": {"schema": schema}},
    )
    assert reply.structured == {"id": "A1"}


async def test_summarize_a_payload(ask):
    def script(prompt):
        assert "<|system|>\nSummarize" in prompt
        assert "<|user|>\nKeep it short.\n\nname: 王五, city: 北京<|assistant|>" in prompt
        return "\nWang lives in Beijing.<|user|>"

    payload = {"type": "csv", "data": "name,city\n王五,北京\n"}
    reply = await ask(script, task="summarize", query="Keep it short.", payload=payload)
    assert (reply.status, reply.message.content) == ("ok", "Wang lives in Beijing.")


async def test_a_task_may_come_while_the_daemon_runs(start, ask):
    class Late:
        name = "test_late"

        def validate(self, request, registry):
            pass

        async def run(self, job, record, chat, registry):
            return Conclusion(Message(role="assistant", content="late"), "stop")

    agent = start(says("\nHello<|user|>"))
    assert (await ask(None, agent=agent, task="test_late")).error.code == "unknown_task"
    register_task(Late())  # as a plug-in does that is put into its folder
    assert (await ask(None, agent=agent, task="test_late")).message.content == "late"


async def test_a_registered_task_runs_and_keeps_its_name(start, ask):
    class Shout:
        name = "test_shout"

        def validate(self, request, registry):
            pass

        async def run(self, job, record, chat, registry):
            return Conclusion(Message(role="assistant", content=job.request.query.upper()), "stop")

    class Other(Shout):
        pass

    register_task(Shout())
    register_task(Shout())  # its module was loaded again
    reply = await ask(says(""), task="test_shout", query="hey")
    assert reply.message.content == "HEY"
    with pytest.raises(ConfigurationError, match=r"test_shout.*declared twice"):
        register_task(Other())
    Other.name = "chat"
    with pytest.raises(ConfigurationError, match="chat"):
        register_task(Other())


async def test_texts_that_come_too_late_are_not_all_prefilled(start, ask):
    agent = start(says("\nhappy<|user|>"), step_seconds=0.01)
    job = {"deadline": time.monotonic() + 0.2}
    texts = [f"text {number}" for number in range(2_000)]
    reply = await ask(None, agent=agent, job=job, query=None, texts=texts, task="classify", labels=LABELS)
    assert reply.status == "expired"
    assert sum(engine_of(agent).stats().finished.values()) < 500


@pytest.mark.parametrize("task", ["classify", "embed"])
async def test_more_texts_than_a_reply_holds_are_refused_before_they_are_worked_on(
    start, ask, task, monkeypatch
):
    monkeypatch.setattr(texts_module, "_MOST", 1_000)
    agent = start(says("\nhappy<|user|>"))
    request = {"task": task, "texts": ["text"] * 500} | ({"labels": LABELS} if task == "classify" else {})
    reply = await ask(None, agent=agent, query=None, **request)
    assert (reply.status, reply.error.code) == ("rejected", "invalid_request")
    most = int(re.search(r"send at most (\d+) at a time", reply.error.message)[1])
    assert (await ask(None, agent=agent, query=None, **request | {"texts": ["text"] * most})).status == "ok"
