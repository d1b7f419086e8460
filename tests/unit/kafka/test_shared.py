"""The shared producer when one of its producers takes another's place."""

import asyncio

import pytest
from aiokafka.errors import MessageSizeTooLargeError, ProducerClosed

from daemon.kafka.brokers import shared
from daemon.kafka.brokers.shared import SharedProducer
from daemon.kafka.record import Outgoing
from daemon.kafka.settings import KafkaSettings


class Producer:
    """As the client's: `late` waits for room, a closed one takes nothing. `fail` refuses what was taken."""

    def __init__(self) -> None:
        self.taken: dict[bytes, asyncio.Future[object]] = {}
        self.waits, self.room = asyncio.Event(), asyncio.Event()
        self.closed = False

    async def start(self): ...

    async def flush(self): ...

    async def send(self, topic, value, **_):
        if value == b"late":
            self.waits.set()
            await self.room.wait()
        if self.closed:
            raise ProducerClosed
        self.taken[value] = asyncio.get_running_loop().create_future()
        return self.taken[value]

    async def stop(self):
        self.closed = True
        self.room.set()

    def fail(self, value):
        self.taken[value].set_exception(MessageSizeTooLargeError())


@pytest.fixture
def producers(monkeypatch):
    """All that were made, the first one first."""
    made: list[Producer] = []

    def new(settings, **options):
        made.append(Producer())
        return made[-1]

    monkeypatch.setattr(shared, "new_producer", new)
    return made


def record(value: bytes) -> Outgoing:
    return Outgoing("topic", None, value)


async def refused(one: SharedProducer, producer: Producer, value: bytes) -> None:
    future = await one.send(record(value))
    asyncio.get_running_loop().call_soon(producer.fail, value)
    with pytest.raises(MessageSizeTooLargeError):
        await future


async def test_a_record_that_waited_in_a_producer_that_was_replaced_is_sent_by_the_next(producers):
    one = SharedProducer(KafkaSettings())
    late = asyncio.create_task(one.send(record(b"late")))
    await producers[0].waits.wait()
    await refused(one, producers[0], b"bad")
    await one.send(record(b"next"))
    producers[1].room.set()
    assert await late is producers[1].taken[b"late"]
    assert b"late" not in producers[0].taken and producers[0].closed


async def test_what_a_former_producer_is_refused_does_not_spoil_the_next(producers):
    one = SharedProducer(KafkaSettings())
    late = asyncio.create_task(one.send(record(b"late")))
    first = producers[0]
    await first.waits.wait()
    await refused(one, first, b"bad")
    first.room.set()
    await one.send(record(b"next"))
    assert len(producers) == 2 and not late.done()  # it comes between the change and the end of the first
    taken = await late
    asyncio.get_running_loop().call_soon(first.fail, b"late")
    with pytest.raises(MessageSizeTooLargeError):
        await taken
    await one.send(record(b"more"))
    assert len(producers) == 2 and b"more" in producers[1].taken


async def test_a_producer_that_was_stopped_takes_nothing(producers):
    one = SharedProducer(KafkaSettings())
    await one.stop()
    with pytest.raises(ProducerClosed):
        await one.send(record(b"more"))
