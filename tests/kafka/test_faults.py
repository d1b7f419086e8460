"""Processes killed and frozen, members joining and leaving, a broker that goes and comes back."""

import asyncio
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from structlog.testing import capture_logs

from daemon.kafka.embedded import EmbeddedBroker
from daemon.kafka.reader import Reader
from daemon.kafka.settings import KafkaSettings
from tests.kafka.traffic import create_topic, echo, opened, put, read, running, settings

ROOT = Path(__file__).parents[2]
BOTH = pytest.mark.parametrize("delivery", ["exactly-once", "at-least-once"])


class Worker:
    """A consumer in a child process; what it prints is kept."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.started: list[tuple[str, int]] = []
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def spawn(cls, chosen: KafkaSettings, seconds: float) -> "Worker":
        return cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.kafka.worker", chosen.model_dump_json(), str(seconds)),
                stdout=asyncio.subprocess.PIPE,
                cwd=ROOT,
            )
        )

    async def _read(self) -> None:
        # SIGKILL may cut the last line short.
        while (line := await self.process.stdout.readline()).endswith(b"\n"):
            word, *rest = line.split()
            if word == b"start":
                self.started.append((rest[0].decode(), int(rest[1])))

    async def has_started(self, count: int) -> None:
        while len(self.started) < count:  # noqa: ASYNC110  the test's timeout bounds it
            await asyncio.sleep(0.01)

    async def end(self, number: signal.Signals) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        await self.process.wait()
        await self._reading
        return self.process.returncode


def numbers(records) -> list[int]:
    return sorted(int(record.value) for record in records)


@BOTH
async def test_kill_in_the_middle_of_the_work(broker, name, delivery):
    address = broker.bootstrap_servers
    chosen = settings(address, name, delivery=delivery, session_timeout_seconds=1.0)
    await create_topic(address, f"{name}.requests", 2)
    await put(address, f"{name}.requests", [(b"%d" % (n % 50), b"%d" % n) for n in range(200)])
    victim = await Worker.spawn(chosen, 0.05)
    await victim.has_started(100)
    assert await victim.end(signal.SIGKILL) == -signal.SIGKILL
    heir = await Worker.spawn(chosen, 0.01)
    replies = await read(address, f"{name}.replies", 200)
    assert await heir.end(signal.SIGTERM) == 0
    if delivery == "exactly-once":
        assert numbers(replies) == list(range(200))
    else:
        # What is there twice has the same id, so a reader can tell.
        by_id = {dict(reply.headers)["reply-id"]: reply for reply in replies}
        assert numbers(by_id.values()) == list(range(200))
    for key in range(50):
        order = [int(reply.value) for reply in replies if reply.key == b"%d" % key]
        assert order == sorted(order) or delivery == "at-least-once"
    repeated = {value for value, _ in victim.started} & {value for value, _ in heir.started}
    assert repeated
    assert all(attempt == 2 for value, attempt in heir.started if value in repeated)


async def test_a_frozen_process_that_comes_back_cannot_commit(broker, name):
    address = broker.bootstrap_servers
    chosen = settings(address, name, session_timeout_seconds=1.0, partitions=1)
    await create_topic(address, f"{name}.requests")
    await put(address, f"{name}.requests", [(None, b"%d" % n) for n in range(100)])
    frozen = await Worker.spawn(chosen, 0.3)
    await frozen.has_started(64)
    frozen.process.send_signal(signal.SIGSTOP)
    heir = await Worker.spawn(chosen, 0.01)
    replies = await read(address, f"{name}.replies", 100)
    assert numbers(replies) == list(range(100))
    await put(address, f"{name}.requests", [(None, b"%d" % n) for n in range(100, 160)])
    await read(address, f"{name}.replies", 160)
    frozen.process.send_signal(signal.SIGCONT)
    # Both are members now and share what comes.
    await put(address, f"{name}.requests", [(None, b"%d" % n) for n in range(160, 180)])
    replies = await read(address, f"{name}.replies", 180, extra_seconds=2.0)
    assert numbers(replies) == list(range(180))
    # What both worked on they called by different numbers, so that deltas of the two can be told apart.
    assert {value for value, _ in frozen.started} & {value for value, _ in heir.started}
    assert not set(frozen.started) & set(heir.started)
    assert await frozen.end(signal.SIGTERM) == 0
    assert await heir.end(signal.SIGTERM) == 0


async def test_frozen_in_the_middle_of_a_transaction(broker, name):
    """Its records are aborted, not merely late: the heir answers the same requests."""
    address = broker.bootstrap_servers
    # Three deaths are no reason here to try each request alone.
    chosen = settings(address, name, session_timeout_seconds=1.0, partitions=1, max_attempts=10)
    await create_topic(address, f"{name}.requests")
    rounds = 3
    workers = []
    for number in range(rounds):
        worker = await Worker.spawn(chosen, 0.005)
        workers.append(worker)
        await put(address, f"{name}.requests", [(None, b"%d" % (number * 200 + n)) for n in range(200)])
        await worker.has_started(30 + 20 * number)
        worker.process.send_signal(signal.SIGSTOP)
    heir = await Worker.spawn(chosen, 0.005)
    replies = await read(address, f"{name}.replies", rounds * 200)
    for worker in workers:
        worker.process.send_signal(signal.SIGCONT)
    replies = await read(address, f"{name}.replies", rounds * 200, extra_seconds=3.0)
    assert numbers(replies) == list(range(rounds * 200))
    for worker in (*workers, heir):
        assert await worker.end(signal.SIGTERM) == 0


async def test_a_transaction_that_does_not_end_is_named_and_waited_for(broker, name):
    """What it holds back may be a reply to the very request that comes next."""
    address = broker.bootstrap_servers
    chosen = settings(address, name, partitions=1, transaction_timeout_seconds=1.0)
    await create_topic(address, f"{name}.requests")
    await create_topic(address, f"{name}.replies")
    await put(address, f"{name}.requests", [(None, b"0")])
    foreign = AIOKafkaProducer(
        bootstrap_servers=address, transactional_id=name, transaction_timeout_ms=60_000
    )
    async with foreign:
        await foreign.begin_transaction()
        await foreign.send_and_wait(f"{name}.replies", b"not committed")
        with capture_logs() as logs:
            async with running(chosen, echo(chosen)):
                said = []
                while len(said) < 2:
                    await asyncio.sleep(0.02)
                    said = [line["reason"] for line in logs if line["event"] == "partition_not_opened"]
                await foreign.abort_transaction()
                replies = await read(address, f"{name}.replies", 1)
    assert numbers(replies) == [0]
    assert all(f"{name}.replies/0 shows nothing committed from offset 0 to 1 " in reason for reason in said)
    assert "kafka-transactions.sh" in said[0]


@BOTH
async def test_members_that_come_and_go_share_the_work_without_repeating_it(broker, name, delivery):
    address = broker.bootstrap_servers
    chosen = settings(address, name, delivery=delivery, partitions=4)
    await create_topic(address, f"{name}.requests", 4)
    await put(address, f"{name}.requests", [(b"%d" % (n % 40), b"%d" % n) for n in range(400)])
    handled: Counter[bytes] = Counter()
    answer = echo(chosen, 0.05)

    async def handler(record, emit):
        handled[record.value] += 1
        return await answer(record, emit)

    async with running(chosen, handler) as first:
        await opened(first, 4)
        async with running(chosen, handler) as second:
            await opened(second, 2)
            assert first.partitions <= 2
            await asyncio.sleep(0.3)
        replies = await read(address, f"{name}.replies", 400)
        await opened(first, 4)
    assert numbers(replies) == list(range(400))
    assert set(handled.values()) == {1}
    for key in range(40):
        order = [int(reply.value) for reply in replies if reply.key == b"%d" % key]
        assert order == sorted(order)


async def test_a_request_longer_than_the_grace_period_goes_on_when_its_partition_stays(broker, name):
    address = broker.bootstrap_servers
    chosen = settings(address, name, partitions=2, rebalance_grace_seconds=0.2)
    await create_topic(address, f"{name}.requests", 2)
    handled: Counter[bytes] = Counter()

    async def handler(record, emit):
        handled[record.value] += 1
        return await echo(chosen, 4.0)(record, emit)

    async with running(chosen, handler) as first:
        await opened(first, 2)
        await put(address, f"{name}.requests", [(b"a", b"0"), (b"c", b"1"), (b"d", b"2"), (b"e", b"3")])
        while len(handled) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        async with running(chosen, handler) as second:
            await opened(second, 1)
            replies = await read(address, f"{name}.replies", 4)
    assert numbers(replies) == [0, 1, 2, 3]
    stayed = [int(value) for value, count in handled.items() if count == 1]
    assert stayed
    assert len(stayed) < 4


@pytest.fixture(scope="module")
def frail_broker(tmp_path_factory):
    """One of this module's own, to be stopped and killed."""
    with EmbeddedBroker(tmp_path_factory.mktemp("frail")) as running:
        yield running


async def test_a_coordinator_that_loads_is_not_taken_for_one_without_offsets(frail_broker, name):
    address, partition = frail_broker.bootstrap_servers, TopicPartition(f"{name}.requests", 0)
    await create_topic(address, partition.topic)

    def restart() -> None:
        frail_broker.stop()
        frail_broker.start()

    committed, found = OffsetAndMetadata(5, "map"), []
    async with Reader(bootstrap_servers=address, group_id=name, enable_auto_commit=False) as reader:
        reader.assign([partition])
        await reader.commit({partition: committed})
        restarting = asyncio.create_task(asyncio.to_thread(restart))
        while not restarting.done() or found[-1] != committed:
            try:
                found.append(await reader.committed_mark(partition))
            except (KafkaError, AssertionError) as error:  # of a client whose brokers are away
                found.append(error)
            await asyncio.sleep(0)
        await restarting
    assert None not in found


@pytest.mark.parametrize(
    ("delivery", "how"), [("exactly-once", "stop"), ("exactly-once", "kill"), ("at-least-once", "kill")]
)
async def test_the_broker_goes_and_comes_back(frail_broker, name, delivery, how):
    address = frail_broker.bootstrap_servers
    chosen = settings(address, name, delivery=delivery)
    async with running(chosen, echo(chosen, 0.02)) as consumer:
        await opened(consumer, 2)
        await put(address, f"{name}.requests", [(None, b"%d" % n) for n in range(300)])
        await asyncio.sleep(0.05)
        await asyncio.to_thread(frail_broker.stop if how == "stop" else frail_broker.kill)
        await asyncio.sleep(1.0)
        await asyncio.to_thread(frail_broker.start)
        await put(address, f"{name}.requests", [(None, b"%d" % n) for n in range(300, 310)])
        # A transaction that was open hides what comes after it until the brokers abort it.
        replies = await read(address, f"{name}.replies", 310, seconds=60)
    if delivery == "exactly-once":
        assert numbers(replies) == list(range(310))
    else:
        assert {int(reply.value) for reply in replies} == set(range(310))


async def test_sigterm_under_load_hands_back_what_does_not_fit(broker, name):
    address = broker.bootstrap_servers
    chosen = settings(address, name, drain_grace_seconds=0.3)
    await create_topic(address, f"{name}.requests", 2)
    await put(address, f"{name}.requests", [(None, b"%d" % n) for n in range(200)])
    worker = await Worker.spawn(chosen, 0.5)
    await worker.has_started(70)
    assert await worker.end(signal.SIGTERM) == 0
    heir = await Worker.spawn(chosen, 0.01)
    replies = await read(address, f"{name}.replies", 200)
    assert await heir.end(signal.SIGTERM) == 0
    assert numbers(replies) == list(range(200))
