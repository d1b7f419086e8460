"""An MCP server with sessions, of which `restart` leaves none, and a gateway in front of it."""

import asyncio
import uuid
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.test_utils import TestServer

TOOLS = [
    {"name": "look_up", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}},
    {"name": "put", "inputSchema": {"type": "object"}},
]
NOT_FOUND = {"jsonrpc": "2.0", "id": None, "error": {"code": -32001, "message": "Session not found"}}


class Sessions:
    """`called`: the tools that were called. `gateway`: the status it answers calls with, None to let them
    through; `says_why`: whether an unknown session gets a JSON-RPC error along with its 404. `hangs`:
    answers nothing; `hung` gets the messages that it does not answer."""

    def __init__(self):
        self.called, self.gateway, self.says_why = [], None, False
        self.hangs, self.hung, self._end = False, asyncio.Queue(), asyncio.Event()
        self._known = set()

    @asynccontextmanager
    async def serve(self):
        app = web.Application()
        app.router.add_route("*", "/mcp", self._answer)
        async with TestServer(app) as running:
            self.server, self.url = running, str(running.make_url("/mcp"))
            yield self
            self._end.set()

    def restart(self):
        self._known.clear()

    async def _answer(self, request):
        if self.hangs:
            if request.method == "POST":
                self.hung.put_nowait(await request.json())
            await self._end.wait()
        if request.method != "POST":
            return web.Response(status=405)
        message, session = await request.json(), request.headers.get("Mcp-Session-Id")
        if message["method"] == "initialize":
            session = uuid.uuid4().hex
            self._known.add(session)
            about = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                     "serverInfo": {"name": "sessions", "version": "1"}}  # fmt: skip
            return self._result(message, about, {"Mcp-Session-Id": session})
        if session not in self._known:
            return web.json_response(NOT_FOUND, status=404) if self.says_why else web.Response(status=404)
        return self._in_session(message)

    def _in_session(self, message):
        if "id" not in message:
            return web.Response(status=202)
        if message["method"] == "tools/list":
            return self._result(message, {"tools": [{"description": "d", **tool} for tool in TOOLS]})
        if self.gateway is not None:
            return web.Response(status=self.gateway)
        self.called.append(message["params"]["name"])
        return self._result(message, {"content": [{"type": "text", "text": "done"}]})

    def _result(self, message, result, headers=None):
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result}, headers=headers)
