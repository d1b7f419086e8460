"""What Kafka, the agent and the tools cost on top of the model: the daemon against its own engine.

The same requests run twice in this process: end to end through a real broker, and as the very prompts that
this made (same tokens, grammars and limits, two rounds of a request one after the other) straight into the
engine. Requests come from a process of its own, so that its CPU time does not count.

usage: python -m tests.bench.bench_end_to_end [--requests N] [--in-flight N] [--delivery …]
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from daemon.agent.agent import Agent
from daemon.bundled import bundled_engine
from daemon.demo.database import Database
from daemon.demo.desk import Desk, declare
from daemon.handler import Handler
from daemon.kafka.consumer import Consumer
from daemon.kafka.embedded import EmbeddedBroker
from daemon.kafka.settings import KafkaSettings
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
WARM_UP = 64


@dataclass
class Cost:
    """Seconds of wall and of this process's CPU."""

    wall: float = 0.0
    cpu: float = 0.0

    @contextmanager
    def measured(self) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall, self.cpu = time.perf_counter() - wall, time.process_time() - cpu


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


async def end_to_end(
    engine: Engine, kafka: KafkaSettings, requests: int, state: Path
) -> tuple[Cost, list[list[Prompt]]]:
    registry = Registry()
    with registry.collecting():
        declare(Desk(Database(state / "desk.sqlite3")))
    recorder = Recorder(engine)
    agent = Agent(single(recorder), registry)
    consumer = Consumer(kafka, Handler(agent, Metrics("bench"), kafka, LimitSettings()))
    await consumer.start()
    run = asyncio.create_task(consumer.run())
    cost = Cost()
    try:
        await drive(kafka, WARM_UP)
        recorder.chains.clear()
        with cost.measured():
            answered = await drive(kafka, requests)
        assert answered == requests
    finally:
        await consumer.drain()
        await consumer.stop()
        await run
    return cost, list(recorder.chains.values())


async def drive(kafka: KafkaSettings, requests: int) -> int:
    """Send and count replies in a child process; returns how many requests were answered."""
    command = [sys.executable, "-m", "tests.bench.bench_end_to_end"]
    command += ["--drive", str(requests), kafka.bootstrap_servers]
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await child.communicate()
    return int(output)


async def driver(requests: int, servers: str) -> int:
    kafka = KafkaSettings(bootstrap_servers=servers)
    consumer = AIOKafkaConsumer(
        kafka.reply_topic,
        bootstrap_servers=servers,
        isolation_level="read_committed",
        auto_offset_reset="latest",
    )
    await consumer.start()
    await consumer.seek_to_end()
    for partition in consumer.assignment():
        await consumer.position(partition)
    chance = random.Random(7)
    async with AIOKafkaProducer(bootstrap_servers=servers, linger_ms=5) as producer:
        for number in range(requests):
            text = chance.choice(QUESTIONS).format(chance.randint(1000, 1010))
            await producer.send(
                kafka.request_topics[0], json.dumps({"query": text}).encode(), key=b"%d" % number
            )
        await producer.flush()
    seen = 0
    while seen < requests:
        batches = await consumer.getmany(timeout_ms=20_000)
        if not batches:
            break
        seen += sum(len(batch) for batch in batches.values())
    await consumer.stop()
    return seen


async def straight(engine: Engine, chains: list[list[Prompt]], in_flight: int) -> Cost:
    """The chains' prompts with as many chains at once as the daemon had requests in flight."""
    room = asyncio.Semaphore(in_flight)

    async def follow(chain: list[Prompt]) -> list[Completion]:
        async with room:
            return [await engine.submit(prompt).result() for prompt in chain]

    await asyncio.gather(*(follow(chain) for chain in chains[:WARM_UP]))
    cost = Cost()
    with cost.measured():
        await asyncio.gather(*(follow(chain) for chain in chains))
    return cost


async def bench(requests: int, in_flight: int, delivery: str) -> None:
    with tempfile.TemporaryDirectory() as folder, EmbeddedBroker(Path(folder) / "kafka") as broker:
        kafka = KafkaSettings(
            bootstrap_servers=broker.bootstrap_servers, max_in_flight=in_flight, delivery=delivery
        )
        engine = Engine.load(bundled_engine(), slots=in_flight)
        engine.start()
        try:
            through, chains = await end_to_end(engine, kafka, requests, Path(folder))
            bare = await straight(engine, chains, in_flight)
        finally:
            engine.close()
    rounds = sum(map(len, chains))
    print(f"{requests} requests, {rounds} generations, {in_flight} in flight, {delivery}")
    print(f"  through Kafka         {requests / through.wall:8.1f} requests/s")
    print(f"  straight into engine  {requests / bare.wall:8.1f} requests/s")
    print(f"  ratio                 {bare.wall / through.wall:8.2f}      (goal: 0.8)")
    outside = (through.cpu - bare.cpu) / requests * 1e3
    print(f"  CPU outside the model {outside:8.2f} ms per request (goal: under 2)")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=1024)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--delivery", default="exactly-once")
    parser.add_argument("--drive", nargs=2, metavar=("REQUESTS", "SERVERS"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.drive:
        print(asyncio.run(driver(int(chosen.drive[0]), chosen.drive[1])))
    else:
        asyncio.run(bench(chosen.requests, chosen.in_flight, chosen.delivery))


if __name__ == "__main__":
    main()
