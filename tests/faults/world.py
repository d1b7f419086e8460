"""One scenario's world: topics of its own, daemons, what the tools did, and at the end its history."""

import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from daemon.demo.process import DaemonDied, DaemonProcess
from daemon.kafka.settings import Delivery
from tests.faults.cluster import Cluster
from tests.faults.history import Declared, History, Ran, Streamed, Told
from tests.faults.proxy import Trap
from tests.faults.traffic import Traffic, Value, asked_of, conversations, read_all, told_of

SESSION_SECONDS = 2.0
# Longer than session timeout, daemon start and a queue of 64 tool calls on a machine without time for them.
ANSWER_SECONDS = 180.0
TOOLS = Path(__file__).with_name("desk.py")
CLOCK = Path(__file__).with_name("clock")
DECLARED: dict[str, Declared] = {
    "look": "read_only",
    "wait_for_gate": "read_only",
    "book": "idempotent",
    "pack": "idempotent",
    "act_and_fail": "idempotent",
    "charge": "once",
    "charge_and_fail": "once",
    "ship": "reconciled",
    "ship_and_fail": "reconciled",
    "reserve": "reconciled",
}
UNDOABLE = frozenset({"reserve"})


@dataclass(frozen=True)
class Setting:
    """What a world is like. `tool_seconds`: what the slowest tool takes. `fake_clock`: the daemons' wall
    clock is told by a file.
    """

    daemons: int = 1
    partitions: int = 3
    tool_seconds: float = 0.1
    delivery: Delivery = "exactly-once"
    fake_clock: bool = False


USUAL = Setting()


class World:
    def __init__(
        self, cluster: Cluster, engine: Path, folder: Path, name: str, setting: Setting, load: int = 1
    ) -> None:
        """`name` begins the names of its topics and is its group. `load`: see `ask`."""
        self.cluster, self.folder, self.name = cluster, folder, name
        self._setting, self.load = setting, load
        self.traffic = Traffic(cluster.direct, name, setting.partitions)
        self.daemons: list[DaemonProcess] = []
        self._spawned: list[DaemonProcess] = []
        self.recoveries: list[float] = []
        self.poisoned: list[str] = []
        self.warm_up = 0  # requests before the first round
        self.in_flight: list[int] = []  # requests without an answer at the moment of each fault
        self._deaths: list[str] = []
        self._count = 0
        self._effects = folder / "effects"
        self.gate = folder / "gate"
        settings = {
            "bootstrap_servers": cluster.proxied,
            "group_id": name,
            "request_topics": json.dumps([self.traffic.requests]),
            "reply_topic": self.traffic.replies,
            "dead_letter_topic": f"{name}.dead-letters",
            "metrics_topic": f"{name}.metrics",
            "control_topic": f"{name}.control",
            "journal_topic": f"{name}.journal",
            "audit_topic": f"{name}.audit",
            "partitions": str(setting.partitions),
            "delivery": setting.delivery,
            "session_timeout_seconds": str(SESSION_SECONDS),
            "rebalance_grace_seconds": "2",
            "drain_grace_seconds": "10",
        }
        self._environment = {f"AUTOGLM_KAFKA__{key.upper()}": value for key, value in settings.items()} | {
            "AUTOGLM_ENGINE__PATH": str(engine),
            "AUTOGLM_ENGINE__THREADS": "1",
            "AUTOGLM_AGENT__SYSTEM": "Be brief.",
            "AUTOGLM_TOOLS__MODULES": json.dumps([str(TOOLS)]),
            "AUTOGLM_METRICS__PORT": "0",
            "AUTOGLM_LIMITS__REQUEST_BYTES": "100000",
            "AUTOGLM_LOG__FORMAT": "json",
            "FAULTS_EFFECTS": str(self._effects),
            "FAULTS_GATE": str(self.gate),
            "FAULTS_TOOL_SECONDS": str(setting.tool_seconds),
        }
        if setting.fake_clock:
            self.set_clock(0)
            path = filter(None, (str(CLOCK), os.environ.get("PYTHONPATH")))
            self._environment |= {"FAULTS_CLOCK": str(folder / "clock"), "PYTHONPATH": os.pathsep.join(path)}

    async def start(self) -> None:
        """Topics and daemons. Returns when every partition is being worked on."""
        await self.traffic.start()
        for _ in range(self._setting.daemons):
            await self.start_daemon()
        keys = [f"warm up {number}" for number in range(8 * self.traffic.partitions)]
        await self.traffic.send([{"query": "go", "tools": [], "max_tokens": 1}] * len(keys), list(keys))
        await self.answered()
        self.warm_up = len(keys)

    async def ask(
        self, count: int, keys: int, make: Callable[[], Value], within: float | None = None
    ) -> list[str]:
        """So many requests in so many conversations, some in none; the load multiplies both.

        `within`, and what is returned: see Traffic.send.
        """
        values: list[Value | bytes | None] = [make() for _ in range(count * self.load)]
        return await self.traffic.send(values, conversations(keys * self.load), within)

    def set_trap(self, trap: Trap) -> Trap:
        """For this world's daemons only."""
        trap.group = f"{self.name}."
        return self.cluster.proxy.set_trap(trap)

    def clear_traps(self) -> None:
        self.cluster.proxy.clear(f"{self.name}.")

    def set_clock(self, seconds: int) -> None:
        """The daemons' wall clock is so far ahead."""
        told = self.folder / "clock.new"
        told.write_text(str(seconds))
        told.rename(self.folder / "clock")

    async def start_daemon(self) -> DaemonProcess:
        """Returns when it is ready, tried twice as on a machine too busy to start one in time. Its log is
        `daemon-N.log` in the world's folder.
        """
        try:
            return await self._start_daemon()
        except DaemonDied:
            tried = self._spawned[-1]
            if tried.process.returncode != -signal.SIGKILL:  # that is what ends one that was too slow
                self._deaths.append(f"{tried.log}: ended by itself before it was ready")
            return await self._start_daemon()

    async def _start_daemon(self) -> DaemonProcess:
        self._count += 1
        daemon = DaemonProcess(
            self._environment | {"AUTOGLM_KAFKA__CLIENT_ID": f"daemon-{self._count}"},
            log=self.folder / f"daemon-{self._count}.log",
            ready_seconds=ANSWER_SECONDS,
        )
        self._spawned.append(daemon)
        await asyncio.to_thread(daemon.start)
        self.daemons.append(daemon)
        return daemon

    def client_id(self, daemon: DaemonProcess) -> str:
        assert daemon.log is not None
        return daemon.log.stem

    async def says(self, daemon: DaemonProcess, event: str) -> None:
        """Returns when its log has an event of that name. Raises TimeoutError."""
        assert daemon.log is not None
        async with asyncio.timeout(ANSWER_SECONDS):
            while f'"event": "{event}"' not in daemon.log.read_text():  # noqa: ASYNC110  a file tells nobody
                await asyncio.sleep(0.02)

    async def kill(self, daemon: DaemonProcess) -> None:
        """SIGKILL."""
        self.in_flight.append(self.traffic.unanswered)
        self.daemons.remove(daemon)
        await asyncio.to_thread(daemon.kill)

    async def replace(self, daemon: DaemonProcess) -> DaemonProcess:
        """SIGKILL and a new daemon; notes how long after its start the first reply came."""
        await self.kill(daemon)
        killed, before = time.monotonic(), set(self.traffic.answered_at)
        new = await self.start_daemon()
        fresh = self.traffic.answered_at.keys() - before
        if not fresh and self.traffic.unanswered:
            await self.traffic.until(lambda: self.traffic.answered_at.keys() - before, ANSWER_SECONDS)
        fresh = self.traffic.answered_at.keys() - before
        if fresh:
            self.recoveries.append(min(self.traffic.answered_at[name] for name in fresh) - killed)
        return new

    async def terminate(self, daemon: DaemonProcess) -> None:
        """SIGTERM; anything but an orderly end is a death."""
        self.daemons.remove(daemon)
        status = await asyncio.to_thread(daemon.stop)
        if status != 0:
            self._deaths.append(f"{daemon.log}: status {status} after SIGTERM")

    def freeze(self, daemon: DaemonProcess) -> None:
        self.in_flight.append(self.traffic.unanswered)
        os.kill(daemon.process.pid, signal.SIGSTOP)

    def thaw(self, daemon: DaemonProcess) -> None:
        os.kill(daemon.process.pid, signal.SIGCONT)

    async def revive(self) -> None:
        """Replace daemons that ended by themselves, as systemd would, and note it."""
        for daemon in list(self.daemons):
            status = daemon.process.poll()
            if status is not None:
                self.daemons.remove(daemon)
                self._deaths.append(f"{daemon.log}: ended by itself with status {status}")
                await self.start_daemon()

    async def answered(self, seconds: float = ANSWER_SECONDS) -> bool:
        """Wait until everything is answered; False when that did not happen in time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if await self.traffic.all_answered(1.0):
                return True
            await self.revive()
        return False

    def effects(self) -> Iterator[Ran]:
        if not self._effects.exists():
            return
        for line in self._effects.read_text().splitlines():
            fields = json.loads(line)
            yield Ran(fields["tool"], fields["key"], fields["request"], fields["event"])

    async def until_effects(self, event: str, count: int, seconds: float = ANSWER_SECONDS) -> bool:
        """Wait until tools noted `count` more of these events than when this was called."""
        mark = f'"event": "{event}"'.encode()
        start = self._effects.stat().st_size if self._effects.exists() else 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._effects.exists():
                with self._effects.open("rb") as file:
                    file.seek(start)
                    if file.read().count(mark) >= count:
                        return True
            await asyncio.sleep(0.004)
        return False

    async def finish(self) -> None:
        """End the daemons in order, which nobody may answer with anything but 0."""
        await self.revive()
        await asyncio.gather(*[self.terminate(daemon) for daemon in list(self.daemons)])

    async def history(self) -> History:
        """Once the daemons have ended: the topics read to their ends by fresh readers."""
        address = self.cluster.direct
        records = [told_of(record) for record in await read_all(address, self.traffic.replies)]
        letters = await read_all(address, f"{self.name}.dead-letters")
        return History(
            asked=[asked_of(record) for record in await read_all(address, self.traffic.requests)],
            told=[record for record in records if isinstance(record, Told)],
            streamed=[record for record in records if isinstance(record, Streamed)],
            ran=list(self.effects()),
            seen=set(self.traffic.seen),
            letters=[dict(letter.headers)["correlation-id"].decode() for letter in letters],
            poisoned=self.poisoned,
            expected=self.traffic.expected,
            called_off=self.traffic.called_off,
            declared=DECLARED,
            undoable=UNDOABLE,
            deaths=self._deaths,
            exactly_once=self._setting.delivery == "exactly-once",
        )

    async def aborted(self) -> int:
        """Terminal records that were written and never committed: faults that struck a transaction."""
        everything = await read_all(self.cluster.direct, self.traffic.replies, "read_uncommitted")
        terminal = Counter(json.loads(record.value)["type"] for record in everything)["reply"]
        committed = await read_all(self.cluster.direct, self.traffic.replies)
        return terminal - Counter(json.loads(record.value)["type"] for record in committed)["reply"]

    def kill_all(self) -> None:
        """Also those that are just starting."""
        for daemon in self._spawned:
            if daemon.started and daemon.process.poll() is None:
                daemon.kill()
