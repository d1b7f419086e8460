"""Input that nobody should send, state that nobody should leave behind, clocks that jump."""

import asyncio
import base64
import json
import random

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from daemon.kafka.progress.offset_map import MAX_SPAN, Counts, encode
from tests.faults.scenarios.scenario import Scenario
from tests.faults.traffic import Value, any_request, call, chat, conversations
from tests.faults.world import ANSWER_SECONDS, Setting, World


async def failing_tools(world: World, rng: random.Random) -> None:
    """A tool that acts and then fails, also when the daemon dies meanwhile."""
    struck = asyncio.create_task(world.until_effects("acted", rng.randint(1, 12)))
    await asyncio.sleep(0)
    await world.ask(16, 11, lambda: call("act_and_fail"))
    await struck
    if rng.random() < 0.5:
        await world.replace(world.daemons[0])


async def foreign_metadata(world: World, rng: random.Random) -> None:
    """Someone else wrote into the group's commits between two daemons. The offsets are right."""
    await world.ask(16, 7, lambda: any_request(rng))
    await world.answered()
    await world.terminate(world.daemons[0])
    consumer = AIOKafkaConsumer(
        bootstrap_servers=world.cluster.direct, group_id=world.name, enable_auto_commit=False
    )
    await consumer.start()
    try:
        for number in range(world.traffic.partitions):
            partition = TopicPartition(world.traffic.requests, number)
            consumer.assign([partition])
            offset = await consumer.committed(partition) or 0
            await consumer.commit({partition: OffsetAndMetadata(offset, _foreign(offset, rng))})
    finally:
        await consumer.stop()
    await world.ask(8, 7, lambda: any_request(rng))
    await world.start_daemon()


def _foreign(offset: int, rng: random.Random) -> str:
    good = encode(offset, Counts(3), [(offset + 2, offset + 5)])
    flipped = bytearray(base64.urlsafe_b64decode(good[5:] + "=" * (-len(good[5:]) % 4)))
    flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return rng.choice(
        (
            "",
            "NO_METADATA",
            '{"leader": "epoch 7"}',
            "ß" * 2000,
            "x" * 4096,
            good[: rng.randrange(len(good))],
            good[:5] + base64.urlsafe_b64encode(bytes(flipped)).decode().rstrip("="),
            encode(offset + 1, Counts(3), [(offset + 3, offset + 6)]),
            "oag1r" + "A" * rng.randrange(4000),
            "oag1b",
            "oag9r" + good[5:],
        )
    )


async def full_map(world: World, rng: random.Random) -> None:
    """One slow request, and behind it more offsets than the commit metadata can tell about.

    The offsets are those of an aborted transaction upstream, whose records must not be read either.
    """
    world.gate.unlink(missing_ok=True)
    struck = asyncio.create_task(world.until_effects("began", 1))
    await asyncio.sleep(0)
    await world.traffic.send([call("wait_for_gate")], ["slow"])
    await struck
    await world.ask(10, 5, lambda: any_request(rng))
    await _abort_records(world, MAX_SPAN - rng.randint(5, 40))
    before = world.traffic.unanswered
    await world.traffic.send([chat(rng) for _ in range(60)], [f"k{number}" for number in range(60)])
    # Some of them fit in before the map is full; the others must wait.
    await world.traffic.until(lambda: world.traffic.unanswered < before + 60, ANSWER_SECONDS)
    await asyncio.sleep(rng.uniform(0.0, 0.5))
    await world.kill(world.daemons[0])
    await world.start_daemon()
    await asyncio.sleep(rng.uniform(0.0, 0.5))
    assert world.traffic.unanswered > 1, "the map was not full"
    world.gate.touch()


async def _abort_records(world: World, count: int) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=world.cluster.direct, transactional_id=f"{world.name}-upstream", linger_ms=5
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        for number in range(count):
            await producer.send(
                world.traffic.requests, b'{"query": "aborted"}', key=b"%d" % (number % 100), partition=0
            )
        await producer.flush()
        await producer.abort_transaction()
    finally:
        await producer.stop()


async def poison(world: World, rng: random.Random) -> None:
    """Records that cannot be read, are too large, or come twice, among good ones; then SIGKILL."""
    bad: list[bytes | None] = [
        None,
        b"",
        b"\xff\xfe\x00",
        b"{",
        b"[" * 5000,
        b"nul\x00",
        b'{"query": 7}',
        b'{"query": "x", "unknown": true}',
        b'{"query": "x", "messages": []}',
        b'"text"',
        json.dumps({"query": "y" * 100_001}).encode(),
        json.dumps({"query": "z" * 900_000}).encode(),
        json.dumps({"query": "\ud800"}).encode(),
    ]
    good = [any_request(rng) for _ in range(12 * world.load)]
    values: list[Value | bytes | None] = [*rng.sample(bad, 8), *good]
    rng.shuffle(values)
    keys = conversations(5 * world.load)
    names = await world.traffic.send(values, keys)
    world.poisoned += [name for name, value in zip(names, values, strict=True) if not isinstance(value, dict)]
    for _ in range(4 * world.load):
        index = rng.randrange(len(values))
        value = values[index]
        if isinstance(value, dict):
            await world.traffic.send_again(names[index], keys[index % len(keys)], value)
    await asyncio.sleep(rng.uniform(0.0, 0.2))
    await world.replace(world.daemons[0])


async def clock(world: World, rng: random.Random) -> None:
    """The wall clock jumps hours ahead and back under load."""
    for _ in range(3):
        await world.ask(12, 7, lambda: any_request(rng))
        world.set_clock(rng.choice((-1, 1)) * rng.randint(60, 90_000))
        await asyncio.sleep(rng.uniform(0.0, 0.7))


SCENARIOS = (
    Scenario("tool acts and fails", failing_tools),
    Scenario("foreign metadata", foreign_metadata),
    Scenario("poison and duplicates", poison),
    Scenario("metadata map full", full_map, Setting(partitions=1)),
    Scenario("clock jumps", clock, Setting(fake_clock=True)),
)
