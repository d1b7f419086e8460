import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from daemon.tools.context import ToolContext
from daemon.tools.declarations import parse
from daemon.tools.errors import RemoteUnavailable, ToolDeclarationError
from daemon.tools.executor import Executor
from daemon.tools.kinds import mcp_http, mcp_server
from daemon.tools.kinds.mcp import McpDeclaration
from daemon.tools.kinds.mcp_server import McpServer
from daemon.tools.schema_signature import SchemaSignature
from tests.unit.tools.kinds.mcp_sessions import Sessions

DESK = str(Path(__file__).with_name("mcp_desk.py"))
STDIO = {"kind": "mcp", "argv": [sys.executable, DESK], "environment": {"KEY": "{credential:token}"}}


@pytest.fixture
async def connect(credentials):
    opened = []

    async def connect_(**table):
        opened.append(await parse(Path("t.toml"), "desk", table).open("desk", "here", credentials))
        return opened[-1]

    yield connect_
    for one in opened:
        await one.close()


@pytest.fixture
async def served():
    """URL of the desk over streamable HTTP."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, DESK, str(port), stderr=asyncio.subprocess.DEVNULL
    )
    for _ in range(600):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await writer.wait_closed()
            break
        await asyncio.sleep(0.05)
    yield f"http://127.0.0.1:{port}/mcp"
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


@pytest.fixture
async def sessions():
    async with Sessions().serve() as serving:
        yield serving


async def run(opened, name, arguments=None):
    (tool,) = [tool for tool in opened.tools if tool.name == name]
    return await Executor().run(tool, arguments or {}, ToolContext())


async def test_tools_over_stdio(connect):
    opened = await connect(**STDIO, connect_seconds=60, timeout_seconds=60)
    tools = {tool.name: tool for tool in opened.tools}
    assert list(tools) == ["desk_look_up", "desk_put", "desk_suspicious", "desk_promise", "desk_leave"]
    flags = {name: (tool.read_only, tool.idempotent) for name, tool in tools.items()}
    assert flags == {"desk_look_up": (True, True), "desk_put": (False, True),
                     "desk_suspicious": (False, False), "desk_promise": (False, False),
                     "desk_leave": (False, False)}  # fmt: skip
    assert len(opened.problems) == 1 and "odd/name" in opened.problems[0]
    assert tools["desk_put"].description == "Put something somewhere."
    assert tools["desk_put"].parameters["required"] == ["key"]

    found = (await run(opened, "desk_look_up", {"key": "'; DROP TABLE x; --"})).result
    assert found["key"] == "'; DROP TABLE x; --" and found["secret"] == "s3{cr}et"
    assert (await run(opened, "desk_put", {"key": "a"})).result == {"result": "a=3"}
    assert "no such key" in (await run(opened, "desk_look_up", {"key": "missing"})).result["error"]
    wrong = await run(opened, "desk_put", {"key": "a", "value": "b"})
    assert wrong.outcome == "error" and wrong.result["error"].startswith("value: ")
    many = await asyncio.gather(*(run(opened, "desk_put", {"key": str(i)}) for i in range(20)))
    assert [one.result["result"] for one in many] == [f"{i}=3" for i in range(20)]

    # What answers otherwise than it promised has acted, and the connection is as good as before.
    promised = await run(opened, "desk_promise")
    assert promised.outcome == "unknown" and "promises" in promised.result["error"]
    assert (await run(opened, "desk_look_up", {"key": "a"})).result["pid"] == found["pid"]

    # It dies; what is asked of it next is asked of a new one.
    gone = await run(opened, "desk_leave")
    assert gone.outcome == "unknown" and not opened.tools[0].retries
    again = await run(opened, "desk_look_up", {"key": "a"})
    assert again.outcome == "ok" and again.result["pid"] != found["pid"] and opened.changed()


async def test_what_a_server_prints_beside_its_answers_holds_up_none(connect):
    rude = str(Path(__file__).with_name("mcp_rude.py"))
    opened = await connect(kind="mcp", argv=[sys.executable, rude], connect_seconds=20, timeout_seconds=20)
    for _ in range(2):
        assert (await run(opened, "desk_echo")).result == "heard"


async def test_what_is_wrong_is_told_also_beside_structured_content(connect):
    rude = str(Path(__file__).with_name("mcp_rude.py"))
    opened = await connect(kind="mcp", argv=[sys.executable, rude], connect_seconds=20, timeout_seconds=20)
    text = [{"type": "text", "text": "no such order"}]
    for content, told in ((text, "no such order"), ([], '{"code": 7}')):
        answer = {"isError": True, "content": content, "structuredContent": {"code": 7}}
        assert (await run(opened, "desk_echo", answer)).result == {"error": told}


async def test_a_server_that_died_while_idle_is_not_called(connect):
    opened = await connect(**STDIO, connect_seconds=60, timeout_seconds=60)
    first = (await run(opened, "desk_look_up", {"key": "a"})).result["pid"]
    os.kill(int(first), signal.SIGKILL)
    async with asyncio.timeout(60):
        while not opened.changed():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    put = await run(opened, "desk_put", {"key": "a"})
    assert (put.outcome, put.result) == ("ok", {"result": "a=3"})
    assert (await run(opened, "desk_look_up", {"key": "a"})).result["pid"] != first


async def test_tools_over_http(connect, served):
    opened = await connect(kind="mcp", url=served, prefix="", include=["look_*", "put"], retries=2,
                           idempotent=False, scopes=["desk"], connect_seconds=60)  # fmt: skip
    tools = {tool.name: tool for tool in opened.tools}
    assert list(tools) == ["look_up", "put"] and not opened.problems
    assert (tools["look_up"].retries, tools["put"].retries) == (2, 0)
    assert tools["put"].scopes == {"desk"}
    assert (await run(opened, "look_up", {"key": "k"})).result["key"] == "k"


@pytest.mark.parametrize("says_why", [False, True])
async def test_a_server_that_forgot_the_session_is_connected_to_again(connect, sessions, says_why):
    opened = await connect(kind="mcp", url=sessions.url, retries=3, timeout_seconds=60)
    sessions.says_why = says_why
    sessions.restart()
    refused = await run(opened, "desk_put")
    assert refused.outcome == "error" and "the call was not made" in refused.result["error"]
    assert (await run(opened, "desk_put")).result == "done"
    sessions.restart()
    read = await run(opened, "desk_look_up")
    assert (read.result, read.attempts) == ("done", 2)
    assert sessions.called == ["put", "look_up"] and opened.changed()


@pytest.mark.parametrize(("status", "outcome"), [(502, "unknown"), (504, "unknown"), (403, "error")])
async def test_what_a_gateway_says_of_a_call(connect, sessions, status, outcome):
    opened = await connect(kind="mcp", url=sessions.url, timeout_seconds=60)
    sessions.gateway = status
    assert (await run(opened, "desk_put")).outcome == outcome
    assert (await run(opened, "desk_look_up")).outcome == "error"
    sessions.gateway = None
    assert (await run(opened, "desk_put")).result == "done"


async def test_what_reached_no_server_was_not_made(connect, sessions):
    opened = await connect(kind="mcp", url=sessions.url, timeout_seconds=60)
    await sessions.server.close()
    away = await run(opened, "desk_put")
    assert away.outcome == "error" and "cannot be reached; the call was not made" in away.result["error"]


@pytest.fixture
async def server(sessions):
    """Connected to `sessions`."""
    server = McpServer(argv=[], cwd=None, environment={}, url=sessions.url, headers={}, connect_seconds=60)
    await server.start()
    yield server
    await server.stop()


async def test_what_finds_no_connection_was_not_made(server, sessions):
    await sessions.server.close()
    with pytest.raises(RemoteUnavailable, match="cannot be reached; the call was not made"):
        await server.call("put", {}, 60)
    with pytest.raises(RemoteUnavailable, match="not connected; the call was not made"):
        await server.call("put", {}, 0.01)


async def test_a_server_that_hangs_does_not_hold_up_the_next_connection(server, sessions, monkeypatch):
    monkeypatch.setattr(mcp_server, "_RECONNECT_SECONDS", 0.01)
    monkeypatch.setattr(mcp_http, "_LEAVE_SECONDS", 0.01)
    server._connect_seconds = 0.1
    sessions.restart()
    with pytest.raises(RemoteUnavailable):
        await server.call("put", {}, 60)
    sessions.hangs = True
    # The client library gives up its first message by itself, but no other.
    for _ in range(2):
        await sessions.hung.get()
    server._connect_seconds = 60
    sessions.hangs = False
    assert await server.call("put", {}, 60) == "done"


async def test_a_connection_that_fails_while_it_is_closed_is_not_made_again(sessions, monkeypatch):
    made, connected = [], McpServer._connected

    @contextlib.asynccontextmanager
    async def fails_at_its_end(server):
        async with connected(server) as client:
            made.append(client)
            try:
                yield client
            finally:
                raise ExceptionGroup("closing", [OSError("gone")])

    monkeypatch.setattr(McpServer, "_connected", fails_at_its_end)
    monkeypatch.setattr(mcp_server, "_RECONNECT_SECONDS", 0.01)
    server = McpServer(argv=[], cwd=None, environment={}, url=sessions.url, headers={}, connect_seconds=60)
    await server.start()
    async with asyncio.timeout(20):
        await server.stop()
    assert len(made) == 1


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"argv": ["/bin/false"]}, "cannot be used"),
        ({"argv": ["/nowhere/desk"]}, "cannot be used"),
        ({"argv": ["/bin/sleep", "60"], "connect_seconds": 0.3}, "did not answer within 0.3 s"),
        ({"url": "http://127.0.0.1:9/mcp"}, "cannot be used"),
        ({"argv": ["relative"]}, "absolute path"),
        ({"argv": ["/bin/true"], "url": "http://x/"}, "either `argv` or `url`"),
        ({}, "either `argv` or `url`"),
    ],
)
async def test_what_is_wrong_is_told(connect, table, complaint):
    with pytest.raises(Exception, match=complaint):
        await connect(kind="mcp", **table)


async def test_a_server_whose_tools_break_something_is_stopped(connect, sessions, monkeypatch):
    stopped, stop = [], McpServer.stop

    async def stopping(server):
        await stop(server)
        stopped.append(server)

    def breaks(*given):
        raise MemoryError("no room")

    monkeypatch.setattr(McpServer, "stop", stopping)
    monkeypatch.setattr(McpDeclaration, "_tool", breaks)
    with pytest.raises(MemoryError):
        await connect(kind="mcp", url=sessions.url)
    assert len(stopped) == 1


@pytest.mark.parametrize("properties", [["x" * 100_000], {"y" * 100_000: 1}])
def test_what_is_wrong_with_a_schema_is_told_briefly(properties):
    with pytest.raises(ToolDeclarationError, match="no JSON Schema at properties") as caught:
        SchemaSignature({"type": "object", "properties": properties}, "here")
    assert len(str(caught.value)) < 3000


def test_a_pattern_that_cannot_be_counted_is_told():
    schema = {"type": "object", "properties": {"a": {"pattern": "a{99999999999999999999}"}}}
    with pytest.raises(ToolDeclarationError, match="here: no JSON Schema: a pattern in it"):
        SchemaSignature(schema, "here")


async def test_keywords_are_by_the_servers_names(connect):
    plain = await connect(**STDIO)
    name = plain.tools[0].name.removeprefix("desk_")
    opened = await connect(**STDIO, keywords={name: ["查询"], "nobody": ["x"]})
    assert {tool.name: tool.keywords for tool in opened.tools if tool.keywords} == {f"desk_{name}": ("查询",)}
    assert any("'nobody'" in problem and "drop it" in problem for problem in opened.problems)
