"""What Kafka, the agent and the tools cost on top of the model: the daemon against its own engine.

The same requests run twice in this process: end to end through a real broker, and as the very prompts that
this made (same tokens, grammars and limits, the rounds of a request one after the other) straight into the
engine, in turns. The daemon logs as it does in service, one JSON line per request, into a file. Requests come
from a process of its own, so that its CPU time does not count; broker and that process share the cores with
the daemon all the same.

usage: python -m tests.bench.bench_end_to_end [--requests N] [--rounds N] [--in-flight N] [--threads N] …
"""

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from daemon import heap, loop
from daemon.agent.agent import Agent
from daemon.bundled import bundled_engine
from daemon.demo.database import Database
from daemon.demo.desk import Desk, declare
from daemon.handler import Handler
from daemon.kafka.consumer import Consumer
from daemon.kafka.embedded import EmbeddedBroker
from daemon.kafka.settings import KafkaSettings
from daemon.ops import logs
from daemon.ops.metrics import Metrics
from daemon.settings import LimitSettings
from daemon.tools.registry import Registry
from engines.serve.engine import Engine
from engines.serve.prompt import Completion, Prompt
from tests.single import single

QUESTIONS = (
    "Where is order A{0}?",
    "订单 A{0} 到哪了？",
    "Look up user U{0}",
    "查一下用户 U{0}",
    "Assess the risk of a payment of {0} by U1024",
    "cancel ticket T{0}",
    "hello",
    "谢谢",
)
WARM_UP = 256  # also for the broker, which compiles its code while it runs


@dataclass(frozen=True)
class Cost:
    """Seconds: of wall, of this process's CPU, and of that what its event loop's thread took; `busy`: those
    of the engine's steps. `rows`: rows per decode step."""

    wall: float
    cpu: float
    loop: float
    busy: float
    rows: float


class Meter:
    """From its making until `read`."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._before = engine, engine.stats()
        self._at = (time.perf_counter(), time.process_time(), time.thread_time())

    def read(self, wall: float | None = None) -> Cost:
        """`wall`: as someone else measured it."""
        now = (time.perf_counter(), time.process_time(), time.thread_time())
        passed = [after - before for before, after in zip(self._at, now, strict=True)]
        before, after = self._before, self._engine.stats()
        steps = after.decode_steps - before.decode_steps
        return Cost(
            passed[0] if wall is None else wall,
            *passed[1:],
            after.step_seconds - before.step_seconds,
            (after.decode_rows - before.decode_rows) / max(1, steps),
        )


class Recorder:
    """Stands before the engine and notes the prompts of each request, in order of their rounds."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.chains: dict[asyncio.Task[object] | None, list[Prompt]] = {}

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def submit(self, prompt: Prompt):
        self.chains.setdefault(asyncio.current_task(), []).append(prompt)
        return self._engine.submit(prompt)


@contextlib.asynccontextmanager
async def daemon(
    recorder: Recorder, engine: Engine, kafka: KafkaSettings, state: Path
) -> AsyncIterator[None]:
    registry = Registry()
    with registry.collecting():
        declare(Desk(Database(state / "desk.sqlite3")))
    agent = Agent(single(recorder), registry)
    consumer = Consumer(kafka, Handler(agent, Metrics("bench"), kafka, LimitSettings()))
    await consumer.start()
    heap.settle()
    run = asyncio.create_task(consumer.run())
    try:
        yield
    finally:
        await consumer.drain()
        await consumer.stop()
        await run


class Driver:
    """A child process that sends requests and reads their replies."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, kafka: KafkaSettings) -> "Driver":
        command = [sys.executable, "-m", "tests.bench.bench_end_to_end", "--drive", kafka.bootstrap_servers]
        pipe = asyncio.subprocess.PIPE
        return cls(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe))

    async def send(self, requests: int) -> float:
        """Seconds from the first request's sending until the last reply was read."""
        self._process.stdin.write(b"%d\n" % requests)
        answer = await self._process.stdout.readline()
        assert answer, "replies are missing"
        return float(answer)

    async def stop(self) -> None:
        self._process.stdin.close()
        await self._process.wait()


async def drive(servers: str) -> None:
    """The child: a number on its standard input is how many requests to send next."""
    kafka = KafkaSettings(bootstrap_servers=servers)
    consumer = AIOKafkaConsumer(
        kafka.reply_topic,
        bootstrap_servers=servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
    )
    chance = random.Random(7)
    async with AIOKafkaProducer(bootstrap_servers=servers, linger_ms=5) as producer, consumer:
        while line := await asyncio.to_thread(sys.stdin.readline):
            began, seen = time.perf_counter(), 0
            for number in range(int(line)):
                text = chance.choice(QUESTIONS).format(chance.randint(1000, 1010))
                value = json.dumps({"query": text}).encode()
                await producer.send(kafka.request_topics[0], value, key=b"%d" % number)
            while seen < int(line):
                batches = await consumer.getmany(timeout_ms=60_000)
                if not batches:
                    return
                seen += sum(len(batch) for batch in batches.values())
            print(time.perf_counter() - began, flush=True)


async def straight(engine: Engine, chains: list[list[Prompt]], in_flight: int) -> Cost:
    """The chains' prompts with as many chains at once as the daemon had requests in flight."""
    room = asyncio.Semaphore(in_flight)

    async def follow(chain: list[Prompt]) -> list[Completion]:
        async with room:
            return [await engine.submit(prompt).result() for prompt in chain]

    meter = Meter(engine)
    await asyncio.gather(*(follow(chain) for chain in chains))
    return meter.read()


async def bench(
    requests: int, rounds: int, in_flight: int, delivery: str, threads: int | None = None
) -> None:
    through, bare, others = list[Cost](), list[Cost](), list[float]()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(EmbeddedBroker(folder / "kafka"))
        with contextlib.redirect_stderr(stack.enter_context((folder / "log").open("w"))):
            logs.configure("info", "json")
        kafka = KafkaSettings(
            bootstrap_servers=broker.bootstrap_servers, max_in_flight=in_flight, delivery=delivery
        )
        engine = Engine.load(bundled_engine(), slots=in_flight, threads=threads)
        stack.callback(engine.close)
        engine.start()
        recorder, driver = Recorder(engine), await Driver.start(kafka)
        async with daemon(recorder, engine, kafka, folder):
            await driver.send(WARM_UP)
            for _ in range(rounds):
                recorder.chains.clear()
                meter, elsewhere = Meter(engine), broker_seconds(broker)
                through.append(meter.read(await driver.send(requests)))
                others.append(broker_seconds(broker) - elsewhere)
                chains = list(recorder.chains.values())
                assert len(chains) == requests
                bare.append(await straight(engine, chains, in_flight))
        await driver.stop()
    print(f"{rounds} times {requests} requests, {in_flight} in flight, {delivery}; medians")
    for name, costs in (("through Kafka", through), ("straight into engine", bare)):
        print(
            f"  {name:22} {requests / middle(costs, 'wall'):7.1f} requests/s  "
            f"CPU {middle(costs, 'cpu') / requests * 1e3:6.2f} ms per request, "
            f"of it the event loop's thread {middle(costs, 'loop') / requests * 1e3:5.2f} ms; "
            f"engine busy {middle(costs, 'busy') / requests * 1e3:5.2f} ms, "
            f"{middle(costs, 'rows'):.0f} rows per decode step"
        )
    pairs = list(zip(through, bare, strict=True))
    ratio = statistics.median(b.wall / t.wall for t, b in pairs)
    outside = statistics.median(t.cpu - b.cpu for t, b in pairs) / requests * 1e3
    print(f"  ratio                  {ratio:7.2f} (goal: 0.8)")
    print(f"  CPU outside the model  {outside:7.2f} ms per request (goal: under 2)")
    print(f"  CPU of the broker      {statistics.median(others) / requests * 1e3:7.2f} ms per request")


def middle(costs: list[Cost], name: str) -> float:
    return statistics.median(getattr(cost, name) for cost in costs)


def broker_seconds(broker: EmbeddedBroker) -> float:
    used = psutil.Process(broker.pid).cpu_times()
    return float(used.user + used.system)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--delivery", default="exactly-once")
    parser.add_argument("--threads", type=int, help="of the model; default: one per core")
    parser.add_argument("--drive", metavar="SERVERS", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.drive:
        asyncio.run(drive(chosen.drive))
    else:
        loop.run(bench(chosen.requests, chosen.rounds, chosen.in_flight, chosen.delivery, chosen.threads))


if __name__ == "__main__":
    main()
