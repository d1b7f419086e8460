import asyncio
import json
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr, create_model

from daemon.tools.audit import Audit, masked
from daemon.tools.context import ToolContext
from daemon.tools.executor import Executor
from daemon.tools.registry import Registry, register_tool
from daemon.tools.signature import Signature
from openautoglm import ToolError


class Account(BaseModel):
    owner: str
    code: SecretStr


@pytest.fixture
def registry():
    with Registry().collecting() as registered:

        @register_tool(description="d")
        def pay(
            amount: float,
            password: str,
            account: Account,
            others: list[Account],
            maybe: Account | None = None,
            note: Annotated[str, Field(json_schema_extra={"writeOnly": True})] = "",
        ) -> str:
            if amount < 0:
                raise ToolError("less than nothing")
            return "paid"

        @register_tool(description="d")
        async def slow() -> None:
            await asyncio.sleep(10)

    return registered


ACCOUNT = {"owner": "me", "code": "1234"}


def test_secrets_are_masked_wherever_they_are(registry):
    arguments = {"amount": 1, "password": "p", "account": ACCOUNT, "others": [ACCOUNT], "maybe": ACCOUNT,
                 "note": "n", "unknown": {"api_key": "k", "x": [{"Token": "t"}]}}  # fmt: skip
    hidden = {"owner": "me", "code": "***"}
    assert masked(arguments, registry.get("pay").parameters) == {
        "amount": 1, "password": "***", "account": hidden, "others": [hidden], "maybe": hidden, "note": "***",
        "unknown": {"api_key": "***", "x": [{"Token": "***"}]},
    }  # fmt: skip


SECRET = Annotated[str, Field(json_schema_extra={"writeOnly": True})]
HINTS = st.recursive(
    st.sampled_from([(str, "plain"), (SECRET, "hidden")]),
    lambda inner: st.one_of(
        inner.map(lambda one: (list[one[0]], [one[1]])),
        inner.map(lambda one: (dict[str, one[0]], {"key": one[1]})),
        inner.map(lambda one: (one[0] | None, one[1])),
        inner.map(lambda one: (create_model("Box", inside=(one[0], ...)), {"inside": one[1]})),
        st.tuples(inner, inner).map(lambda two: (tuple[two[0][0], two[1][0]], [two[0][1], two[1][1]])),
        st.tuples(inner, inner).map(
            lambda two: (
                create_model("Left", left=(two[0][0], ...)) | create_model("Right", right=(two[1][0], ...)),
                {"right": two[1][1]},
            )
        ),
    ),
    max_leaves=5,
)


@given(HINTS)
def test_no_secret_is_told_however_its_type_is_put_together(made):
    hint, value = made

    def take(x): ...

    take.__annotations__ = {"x": hint}
    told = masked({"x": value}, Signature(take, "here").schema)
    assert "hidden" not in str(told)
    assert "***" not in str(told) or "hidden" in str(value)


def test_schemas_that_refer_to_themselves_are_read_to_their_end():
    schema = {
        "properties": {"node": {"$ref": "#/definitions/a~1b"}, "same": {"$ref": "#/definitions/loop"}},
        "definitions": {
            "a/b": {"patternProperties": {"^x": {"format": "password"}, r"^\p{Greek}": {}},
                    "properties": {"next": {"anyOf": [{"$ref": "#/definitions/a~1b"}, {"type": "null"}]}}},
            "loop": {"allOf": [{"$ref": "#/definitions/loop"}, {"$ref": "http://elsewhere/"}]},
        },
    }  # fmt: skip
    arguments = {"node": {"next": {"next": {"x1": "hidden", "y1": "s"}}}, "same": {"y": [1]}}
    assert masked(arguments, schema) == {
        "node": {"next": {"next": {"x1": "***", "y1": "s"}}},
        "same": {"y": [1]},
    }


async def test_every_execution_leaves_an_event(registry):
    audit, events = Audit("host/1"), []

    async def publish(event):
        events.append(event)

    executor = Executor(executed=audit.note)
    context = ToolContext(
        request_id="r", user_id="u", tenant="acme", topic="t", record="t/0/1", idempotency_key="k"
    )
    arguments = {"amount": 1, "password": "p", "account": ACCOUNT, "others": []}
    await executor.run(registry.get("pay"), arguments, context)
    await executor.run(registry.get("pay"), arguments | {"amount": -1}, context)
    await executor.run(registry.get("pay"), {}, context)
    cancelled = asyncio.create_task(executor.run(registry.get("slow"), {}, context))
    await asyncio.sleep(0.05)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    running = asyncio.create_task(audit.run(publish))
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await audit.flush(publish)
    assert [(event.tool, event.outcome) for event in events] == [
        ("pay", "ok"), ("pay", "error"), ("pay", "error"), ("slow", "unknown")]  # fmt: skip
    first = events[0]
    assert (first.instance, first.request_id, first.user_id, first.tenant) == ("host/1", "r", "u", "acme")
    assert (first.topic, first.record, first.call_id) == ("t", "t/0/1", "k")
    assert first.arguments["password"] == "***" and first.error is None and first.duration_ms > 0
    assert events[1].error == "less than nothing" and "amount" in events[2].error
    assert events[3].duration_ms > 0


@pytest.mark.parametrize("secret", ["hunter2", "it's\n\"ä\\", "-" + "x0" * 800, 4711])
async def test_errors_do_not_tell_what_is_masked(secret):
    with Registry().collecting() as registry:

        @register_tool(description="d")
        def enter(account: dict[str, Any]) -> None:
            code = account["codes"][0]["password"]
            raise ToolError(f"{account['owner']}: {code!r} is not {code} nor {json.dumps(code)}")

    audit = Audit("host/1")
    context = ToolContext(request_id="r", topic="t", record="t/0/1", idempotency_key="k")
    arguments = {"account": {"owner": "me", "codes": [{"password": secret}]}}
    execution = await Executor(executed=audit.note).run(registry.get("enter"), arguments, context)
    (event,) = audit._waiting
    assert event.error.startswith("me: ") and "***" in event.error
    for spelled in (str(secret)[:16], repr(secret)[1:17].rstrip("'"), json.dumps(secret)[1:17].rstrip('"')):
        assert spelled in execution.result["error"] and spelled not in event.error


async def test_what_could_not_be_published_stays_in_its_order(registry):
    audit, events = Audit("host/1"), []

    async def refuse(event):
        raise RuntimeError("refused")

    async def publish(event):
        events.append(event.arguments["amount"])

    executor = Executor(executed=audit.note)
    context = ToolContext(request_id="r", topic="t", record="t/0/1", idempotency_key="k")
    for amount in (1, 2):
        arguments = {"amount": amount, "password": "p", "account": ACCOUNT, "others": []}
        await executor.run(registry.get("pay"), arguments, context)
    with pytest.raises(RuntimeError, match="refused"):
        await audit.run(refuse)
    await audit.flush(publish)
    assert events == [1, 2]
