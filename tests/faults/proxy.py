"""A man in the middle of the Kafka protocol: sees each request, and can keep back what passes.

Frame: int32 length; request: int16 API key, int16 API version, int32 correlation id, nullable string client
id (int16 length); a response begins with the correlation id.
Source: https://kafka.apache.org/protocol#protocol_messages
"""

import asyncio
import struct
from dataclasses import dataclass, field
from typing import Literal

PRODUCE, ADD_OFFSETS_TO_TXN, END_TXN, TXN_OFFSET_COMMIT = 0, 25, 26, 28
# The first field of these requests is the transactional id (in Produce from version 3 on).
_NAMED = {PRODUCE, 24, ADD_OFFSETS_TO_TXN, END_TXN, TXN_OFFSET_COMMIT}


@dataclass
class Trap:
    """Catches the next request of a producer, transactional or not, with this API key.

    At `request`: before the broker has seen it; at `response`: when the broker has done it and nobody knows.
    `caught` is set then; the frame waits for `release`, and is dropped with its connection if `drop`.
    `group`: only producers whose transactional id begins with it are meant; `client`: only this client.
    """

    api: int
    at: Literal["request", "response"]
    group: str = ""
    client: str | None = None
    drop: bool = True
    transactional: bool = True
    sprung: bool = False
    caught: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)


class Proxy:
    """Forwards connections from `port` to `target`, both on the loopback address."""

    def __init__(self, port: int, target: int) -> None:
        self._port, self._target = port, target
        self._traps: list[Trap] = []
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def set_trap(self, trap: Trap) -> Trap:
        self._traps.append(trap)
        return trap

    def clear(self, group: str) -> None:
        """Forget the group's traps, and let go of what waits in them."""
        for trap in [trap for trap in self._traps if trap.group == group]:
            trap.release.set()
            self._traps.remove(trap)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, EOFError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward = await asyncio.open_connection("127.0.0.1", self._target)
        waiting: dict[int, Trap] = {}
        pumps = [
            asyncio.create_task(self._requests(reader, onward[1], waiting)),
            asyncio.create_task(_responses(onward[0], writer, waiting)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            onward[1].close()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, waiting: dict[int, Trap]
    ) -> None:
        while True:
            frame = await _read(reader)
            trap = self._trap(frame)
            if trap is not None and trap.at == "request":
                trap.caught.set()
                await trap.release.wait()
                if trap.drop:
                    return
            elif trap is not None:
                waiting[struct.unpack_from(">i", frame, 8)[0]] = trap
            writer.write(frame)
            await writer.drain()

    def _trap(self, frame: bytes) -> Trap | None:
        api, version, _ = struct.unpack_from(">hhi", frame, 4)
        if not self._traps or api not in _NAMED or (api == PRODUCE and version < 3):
            return None
        client, end = _string(frame, 12)
        transactional_id, _ = _string(frame, end)
        for trap in self._traps:
            ours = transactional_id.startswith(trap.group) if transactional_id else True
            meant = ours and trap.client in (None, client) and trap.transactional == bool(transactional_id)
            if trap.api == api and meant and not trap.sprung:
                trap.sprung = True
                return trap
        return None


async def _responses(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, waiting: dict[int, Trap]
) -> None:
    while True:
        frame = await _read(reader)
        trap = waiting.pop(struct.unpack_from(">i", frame, 4)[0], None)
        if trap is not None:
            trap.caught.set()
            await trap.release.wait()
            if trap.drop:
                return
        writer.write(frame)
        await writer.drain()


async def _read(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(4)
    return head + await reader.readexactly(struct.unpack(">i", head)[0])


def _string(frame: bytes, at: int) -> tuple[str | None, int]:
    (length,) = struct.unpack_from(">h", frame, at)
    if length < 0:
        return None, at + 2
    return frame[at + 2 : at + 2 + length].decode(), at + 2 + length
