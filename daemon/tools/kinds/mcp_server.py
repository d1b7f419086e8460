"""A connection to an MCP server that is made again when it is lost."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import structlog
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp_types import (
    CONNECTION_CLOSED,
    REQUEST_TIMEOUT,
    CallToolResult,
    ListToolsResult,
    TextContent,
    ToolListChangedNotification,
)
from mcp_types import Tool as McpTool
from pydantic import ValidationError

from daemon.tools.errors import CallInDoubt, RemoteUnavailable
from daemon.tools.kinds.mcp_http import McpHttpClient, Passage, watch
from daemon.tools.kinds.mcp_stdio import watched_stdio
from daemon.tools.result import to_text

log = structlog.get_logger(__name__)

_PAGES = 100
_RECONNECT_SECONDS = 1.0
_HEAD_START_SECONDS = 0.5


class McpServer:
    """`argv` starts a server of our own, otherwise `url` is one. `changed`: it has other tools now."""

    def __init__(
        self,
        *,
        argv: list[str],
        cwd: str | None,
        environment: dict[str, str],
        url: str,
        headers: dict[str, str],
        connect_seconds: float,
    ) -> None:
        self.changed = False
        self._argv, self._cwd, self._environment = argv, cwd, environment
        self._url, self._headers = url, headers
        self._connect_seconds = connect_seconds
        self._tools: list[McpTool] = []
        self._client: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._lost = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> list[McpTool]:
        """Connect and list the tools. Raises ValueError when that does not succeed in time."""
        self._task = asyncio.create_task(self._stay_connected(), name="mcp")
        try:
            either: set[asyncio.Future[Any]] = {self._task, self._client}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if self._task.done():
                self._task.result()
            return self._tools
        except BaseException as error:
            await self.stop()
            if isinstance(error, TimeoutError):
                raise ValueError(
                    f"the MCP server did not answer within {self._connect_seconds:.3g} s; is it up?"
                ) from None
            if isinstance(error, Exception):
                raise ValueError(f"the MCP server cannot be used: {_reason(error)}; is it up?") from None
            raise

    async def stop(self) -> None:
        """Disconnect, and end a server of our own."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def call(self, name: str, arguments: dict[str, Any], seconds: float) -> Any:
        """Structured content if there is any, else the texts.

        Raises ValueError with what the tool says is wrong, CallInDoubt when the connection fails on the way,
        RemoteUnavailable when the call was not made.
        """
        # A little before whoever waits gives up: then it is known that nothing was done.
        try:
            async with asyncio.timeout(seconds - min(_HEAD_START_SECONDS, seconds / 4)):
                client = await asyncio.shield(self._client)
        except TimeoutError:
            raise RemoteUnavailable("the MCP server is not connected; the call was not made") from None
        passage = watch()
        try:
            result = await client.call_tool(name, arguments, read_timeout_seconds=seconds)
        except Exception as error:
            raise self._failure(client, error, passage, seconds) from None
        structured = result.structured_content
        if result.is_error:
            raise ValueError(_texts(result) or (to_text(structured) if structured else "the tool failed"))
        return _texts(result) if structured is None else structured

    def _failure(self, client: Client, error: Exception, passage: Passage, seconds: float) -> Exception:
        """What `call` raises when the client raised `error`."""
        if passage.not_made is not None:
            self._lose(client)
            return RemoteUnavailable(f"{passage.not_made}; the call was not made")
        if passage.in_doubt is not None:
            return CallInDoubt(passage.in_doubt)
        if not isinstance(error, MCPError):
            return self._unreadable(client, error)
        if error.code == REQUEST_TIMEOUT:
            return CallInDoubt(f"the MCP server did not answer within {seconds:.3g} s")
        if error.code == CONNECTION_CLOSED:
            self._lose(client)
            return CallInDoubt("the MCP server is gone")
        return ValueError(error.message)

    def _unreadable(self, client: Client, error: Exception) -> CallInDoubt:
        if isinstance(error, RuntimeError | ValidationError):  # the connection is as good as before
            reason = str(error).splitlines()[0]
            return CallInDoubt(f"the MCP server's answer is not what it promises: {reason}")
        self._lose(client)  # whatever the transport raises when its other end is not there
        return CallInDoubt(f"the MCP server cannot be reached ({type(error).__name__})")

    def _lose(self, client: Client) -> None:
        """Let later calls wait for the next connection, if `client` was not replaced already."""
        if self._client.done() and self._client.result() is client:
            self._client = asyncio.get_running_loop().create_future()
            self._lost.set()

    def _ended(self) -> None:
        """The server that is connected, or being connected to, is no more."""
        self._lost.set()
        if self._client.done():
            self._lose(self._client.result())

    async def _list(self, client: Client) -> list[McpTool]:
        page: ListToolsResult = await client.list_tools()
        tools = list(page.tools)
        for _ in range(_PAGES):
            if page.next_cursor is None:
                break
            page = await client.list_tools(cursor=page.next_cursor)
            tools += page.tools
        return tools

    async def _stay_connected(self) -> None:
        """Raises what is wrong with the first connection; later ones are tried again."""
        was_there = False
        while True:
            begun = time.monotonic()
            self._lost.clear()
            try:
                async with asyncio.timeout(self._connect_seconds) as limit, self._connected() as client:
                    # Also when it is not the first: the client would list them after a call otherwise.
                    self._tools = await self._list(client)
                    if self._lost.is_set():
                        raise ConnectionError("it has ended")
                    limit.reschedule(None)
                    self._client.set_result(client)
                    was_there = True
                    await self._lost.wait()
                    log.warning("mcp_connection_lost", server=self._name)
            except Exception as error:
                if not was_there:
                    raise
                if self._stopping:  # what fails while the connection is closed takes the cancellation's place
                    return
                log.warning("mcp_connection_failed", server=self._name, error=_reason(error))
            if self._client.done():
                self._lose(self._client.result())
            # A server that was restarted may have other tools.
            self.changed = True
            # One that ends as soon as it is there is not started without end.
            await asyncio.sleep(max(0.0, begun + _RECONNECT_SECONDS - time.monotonic()))

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Client]:
        async with contextlib.AsyncExitStack() as stack:
            if self._argv:
                program, *rest = self._argv
                parameters = StdioServerParameters(
                    command=program,
                    args=rest,
                    env=self._environment,
                    cwd=self._cwd,
                    # What is no UTF-8 would end the client's reading, and no answer would come any more.
                    encoding_error_handler="replace",
                )
                # What it says on stderr is its own; the daemon's log is one JSON object per line.
                log_file = stack.enter_context(Path(os.devnull).open("w"))  # noqa: ASYNC230, SIM115
                transport = watched_stdio(parameters, log_file, self._ended)
            else:
                http = McpHttpClient(headers=self._headers, trust_env=False, timeout=None)
                await stack.enter_async_context(http)
                transport = streamable_http_client(self._url, http_client=http)
            yield await stack.enter_async_context(Client(transport, message_handler=self._heard, cache=None))

    async def _heard(self, message: object) -> None:
        if isinstance(message, ToolListChangedNotification):
            self.changed = True

    @property
    def _name(self) -> str:
        return self._argv[0] if self._argv else httpx2.URL(self._url).host


def _texts(result: CallToolResult) -> str:
    """Other content than text by its type only."""
    texts = [block.text if isinstance(block, TextContent) else f"[{block.type}]" for block in result.content]
    return "\n".join(texts)


def _reason(error: BaseException) -> str:
    """The first cause: the client's task groups wrap it in groups."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
