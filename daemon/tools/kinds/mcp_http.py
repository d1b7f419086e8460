"""HTTP under an MCP client that keeps what became of a call: the client's own errors do not tell."""

import asyncio
import json
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import httpx2

_LEAVE_SECONDS = 2.0


@dataclass
class Passage:
    """`not_made`: why the call certainly was not made; `in_doubt`: why nobody knows. Both None: the answer
    itself says how the call ended, or there was none."""

    not_made: str | None = None
    in_doubt: str | None = None


_PASSAGE: ContextVar[Passage | None] = ContextVar("passage", default=None)


def watch() -> Passage:
    """Of the tool call that this task makes next."""
    passage = Passage()
    _PASSAGE.set(passage)
    return passage


class McpHttpClient(httpx2.AsyncClient):
    """Sends as ever. The MCP client sends in the context of the task that calls."""

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Raises what httpx2 raises, and TimeoutError when a server does not let go of its session."""
        if request.method == "DELETE":
            # Taking leave must hold up neither the next connection nor the end of the daemon.
            async with asyncio.timeout(_LEAVE_SECONDS):
                return await super().send(request, **options)
        passage = _PASSAGE.get()
        if passage is None or not _is_call(request):
            return await super().send(request, **options)
        try:
            response = await super().send(request, **options)
        except httpx2.ConnectError:
            passage.not_made = "the MCP server cannot be reached"
            raise
        # The protocol's word for a session that the server does not know, as after a restart.
        if response.status_code == httpx2.codes.NOT_FOUND:
            passage.not_made = "the MCP server does not know this connection any more"
        elif response.is_server_error:
            passage.in_doubt = f"the MCP server answered with status {response.status_code}"
        return response


def _is_call(request: httpx2.Request) -> bool:
    """Whether it is the call itself: cancelling it is a request of its own."""
    return request.method == "POST" and json.loads(request.content).get("method") == "tools/call"
