"""What leaves outside transactions leaves once and in order, whatever becomes of its acknowledgement."""

import pytest
import pytest_asyncio
from aiokafka.errors import MessageSizeTooLargeError, OutOfOrderSequenceNumber

from daemon.kafka.brokers.shared import SharedProducer
from daemon.kafka.record import Outgoing
from tests.faults.proxy import PRODUCE, Trap
from tests.kafka.traffic import create_topic, read, settings

pytestmark = pytest.mark.asyncio(loop_scope="session")
NAME = "shared-producer"


@pytest_asyncio.fixture(loop_scope="session")
async def producer(cluster):
    made = SharedProducer(settings(cluster.proxied, NAME))
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


def records(topic: str, numbers: range) -> list[Outgoing]:
    return [Outgoing(topic, None, b"%d" % number) for number in numbers]


async def written(cluster, topic: str, count: int) -> list[int]:
    return [int(record.value) for record in await read(cluster.direct, topic, count)]


@pytest.mark.parametrize("at", ["request", "response"])
async def test_a_lost_acknowledgement_repeats_nothing(cluster, producer, at):
    topic = f"{NAME}.lost.{at}"
    await create_topic(cluster.direct, topic)
    await producer.send_all(records(topic, range(3)))
    trap = Trap(PRODUCE, at, group=NAME, transactional=False)
    trap.release.set()
    cluster.proxy.set_trap(trap)
    try:
        await producer.send_all(records(topic, range(3, 9)))
    finally:
        cluster.proxy.clear(NAME)
    assert trap.caught.is_set()
    await producer.send_all(records(topic, range(9, 12)))
    assert await written(cluster, topic, 12) == list(range(12))


async def test_a_refused_record_holds_up_nothing_after_it(cluster, producer):
    topic, narrow = f"{NAME}.wide", f"{NAME}.narrow"
    await create_topic(cluster.direct, topic)
    await create_topic(cluster.direct, narrow, **{"max.message.bytes": "500"})
    await producer.send_all([*records(topic, range(3)), *records(narrow, range(3))])
    with pytest.raises(MessageSizeTooLargeError):
        await producer.send_all([Outgoing(narrow, None, b"0" * 1000)])
    await producer.send_all([*records(narrow, range(3, 6)), *records(topic, range(3, 6))])
    assert await written(cluster, narrow, 6) == list(range(6))
    assert await written(cluster, topic, 6) == list(range(6))


async def test_what_waits_behind_a_refused_record_may_be_sent_again(cluster, producer):
    topic = f"{NAME}.behind"
    await create_topic(cluster.direct, topic, **{"max.message.bytes": "20000"})
    await producer.send_all(records(topic, range(3)))
    refused = await producer.send(Outgoing(topic, None, b"0" * 30000))  # fills a batch: the next is another's
    behind = await producer.send(records(topic, range(3, 4))[0])
    with pytest.raises(MessageSizeTooLargeError):
        await refused
    with pytest.raises(OutOfOrderSequenceNumber):
        await behind
    await producer.send_all(records(topic, range(3, 6)))
    assert await written(cluster, topic, 6) == list(range(6))
