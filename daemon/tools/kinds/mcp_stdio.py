"""Standard input and output under an MCP client that tells when the server has ended."""

import contextlib
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TextIO

from mcp import StdioServerParameters
from mcp.client._transport import ReadStream, TransportStreams
from mcp.client.stdio import stdio_client
from mcp.shared.message import SessionMessage

Received = SessionMessage | Exception


@contextlib.asynccontextmanager
async def watched_stdio(
    parameters: StdioServerParameters, log_file: TextIO, ended: Callable[[], None]
) -> AsyncIterator[TransportStreams]:
    """As `stdio_client`; `ended` is called when the server's output ends, before the client hears of it."""
    async with stdio_client(parameters, errlog=log_file) as (reading, writing):
        yield _Watched(reading, ended), writing


class _Watched:
    def __init__(self, stream: ReadStream[Received], ended: Callable[[], None]) -> None:
        self._stream, self._ended = stream, ended

    async def receive(self) -> Received:
        return await self._stream.receive()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> "_Watched":
        return self

    async def __anext__(self) -> Received:
        try:
            return await self._stream.__anext__()
        except StopAsyncIteration:
            self._ended()
            raise

    async def __aenter__(self) -> "_Watched":
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return await self._stream.__aexit__(kind, error, trace)
