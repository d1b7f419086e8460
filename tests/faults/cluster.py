"""The broker of the fault scenarios: the embedded one, with a second way in that leads through a proxy."""

import asyncio
import os
import signal
import socket
from pathlib import Path

from daemon.kafka.embedded import EmbeddedBroker
from tests.faults.proxy import Proxy


class Cluster:
    """Daemons connect to `proxied`, the harness to `direct`, so that it sees through every fault."""

    def __init__(self, folder: Path) -> None:
        plain, proxied, inner, controller = _free_ports(4)
        self.direct, self.proxied = f"127.0.0.1:{plain}", f"127.0.0.1:{proxied}"
        properties = {
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{plain},PROXIED://127.0.0.1:{inner},"
            f"CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.direct},PROXIED://{self.proxied}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT",
            "message.max.bytes": "1000000",
        }
        self.broker = EmbeddedBroker(folder, port=plain, properties=properties)
        self.proxy = Proxy(proxied, inner)
        self._inner = inner

    async def start(self) -> None:
        """Raises what EmbeddedBroker.start raises."""
        await asyncio.to_thread(self.broker.start)
        while not _listens(self._inner):  # noqa: ASYNC110  the broker opens one listener after the other
            await asyncio.sleep(0.02)
        await self.proxy.start()

    async def stop(self) -> None:
        await self.proxy.stop()
        await asyncio.to_thread(self.broker.stop)

    async def crash(self) -> None:
        """SIGKILL, and a new start on the same data."""
        await asyncio.to_thread(self.broker.kill)
        await asyncio.to_thread(self.broker.start)

    async def restart(self) -> None:
        """An orderly stop and a new start."""
        await asyncio.to_thread(self.broker.stop)
        await asyncio.to_thread(self.broker.start)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        pid = self.broker.pid
        assert pid is not None
        os.kill(pid, number)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
