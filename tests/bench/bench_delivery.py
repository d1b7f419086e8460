"""What exactly-once costs: the same requests in both promises, in turns, with a handler that only waits.

usage: python -m tests.bench.bench_delivery [--window N] [--partitions N] [--seconds S …] …

A closed loop keeps `window` requests in flight; the reader sees committed records only. A handler that
takes no time shows the bare protocol, where a request is as long in flight as its commit takes; one of 0.1 s
shows what is left of that beside the quickest of models. Printed: requests/s, latency, CPU of this process
(daemon, writer and reader together) and of the broker per request.
"""

import argparse
import asyncio
import logging
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from daemon.kafka.embedded import EmbeddedBroker
from tests.kafka.traffic import echo, opened, running, settings


@dataclass(frozen=True)
class Load:
    requests: int
    window: int
    partitions: int
    seconds: float


@dataclass(frozen=True)
class Result:
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    broker_cpu_ms: float


async def measure(broker: EmbeddedBroker, name: str, delivery: str, load: Load) -> Result:
    """One closed loop over fresh topics."""
    address = broker.bootstrap_servers
    chosen = settings(address, name, delivery=delivery, partitions=load.partitions)
    async with running(chosen, echo(chosen, load.seconds)) as consumer:
        await opened(consumer, load.partitions)
        reader = AIOKafkaConsumer(
            chosen.reply_topic,
            bootstrap_servers=address,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            fetch_max_wait_ms=10,
        )
        async with AIOKafkaProducer(bootstrap_servers=address, acks="all") as writer, reader:
            await writer.send_and_wait(chosen.request_topics[0], b"warm", key=b"warm")
            while not await reader.getmany(timeout_ms=1000):
                pass
            return await loop(broker, chosen.request_topics[0], writer, reader, load)


async def loop(
    broker: EmbeddedBroker, topic: str, writer: AIOKafkaProducer, reader: AIOKafkaConsumer, load: Load
) -> Result:
    sent_at: dict[bytes, float] = {}
    took: list[float] = []
    began, cpu, broker_cpu = time.perf_counter(), time.process_time(), broker_seconds(broker)
    while len(took) < load.requests:
        while len(sent_at) < load.requests and len(sent_at) - len(took) < load.window:
            value = b"%d" % len(sent_at)
            sent_at[value] = time.perf_counter()
            await writer.send(topic, value, key=value)
        for records in (await reader.getmany(timeout_ms=100)).values():
            took += [time.perf_counter() - sent_at[record.value] for record in records]
    passed = time.perf_counter() - began
    per_request = 1000 / load.requests
    return Result(
        load.requests / passed,
        statistics.median(took) * 1000,
        statistics.quantiles(took, n=100)[98] * 1000,
        (time.process_time() - cpu) * per_request,
        (broker_seconds(broker) - broker_cpu) * per_request,
    )


def broker_seconds(broker: EmbeddedBroker) -> float:
    used = psutil.Process(broker.pid).cpu_times()
    return float(used.user + used.system)


async def compare(broker: EmbeddedBroker, load: Load, rounds: int) -> None:
    print(f"a handler that takes {load.seconds} s")
    found: dict[str, list[Result]] = {"at-least-once": [], "exactly-once": []}
    for number in range(rounds):
        for delivery, results in found.items():
            result = await measure(broker, f"bench{load.seconds}{number}{delivery}", delivery, load)
            results.append(result)
            print(
                f"  {delivery:14} {result.per_second:7.0f}/s  p50 {result.p50_ms:6.1f} ms  "
                f"p99 {result.p99_ms:6.1f} ms  "
                f"CPU {result.cpu_ms:.2f} + broker {result.broker_cpu_ms:.2f} ms",
                flush=True,
            )
    loose, strict = (statistics.median(r.per_second for r in results) for results in found.values())
    share = strict / loose
    print(f"  exactly-once has {share:.1%} of at-least-once's throughput, medians of {rounds} (goal: 90%)")


async def main(broker: EmbeddedBroker, loads: list[Load], rounds: int) -> None:
    for load in loads:
        await compare(broker, load, rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--seconds", type=float, nargs="+", default=[0.0, 0.1])
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    logging.disable(logging.ERROR)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as data, EmbeddedBroker(Path(data)) as started:
        wanted = [Load(chosen.requests, chosen.window, chosen.partitions, each) for each in chosen.seconds]
        asyncio.run(main(started, wanted, chosen.rounds))
