"""A lane without a broker: what it commits when it is closed, and how it counts attempts."""

import asyncio
from types import SimpleNamespace

from daemon.kafka.lane import Lane, Room
from daemon.kafka.offset_map import decode
from daemon.kafka.offsets import Mark, Progress
from daemon.kafka.record import Incoming, Outgoing
from daemon.kafka.settings import KafkaSettings


class Answers:
    """Lets everything pass."""

    async def refusal(self, record):
        return None

    async def admit(self, record, outputs):
        return outputs


class Memory:
    """A publisher that remembers."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.marks: list[Mark] = []

    async def publish(self, records, mark):
        self.records += [record.value for record in records]
        self.marks.append(mark)

    async def close(self): ...


def delivered(*offsets: int) -> list[SimpleNamespace]:
    return [
        SimpleNamespace(topic="t", partition=0, offset=o, key=None, value=b"%d" % o, headers=(), timestamp=0)
        for o in offsets
    ]


def lane(memory: Memory, handler, progress: Progress, opening: int, fresh_from: int) -> Lane:
    chosen = KafkaSettings(max_in_flight=2, commit_interval_seconds=0.0)
    room = Room(chosen, handler, None, Answers(), asyncio.Semaphore(chosen.max_in_flight))
    return Lane(
        room,
        memory,
        progress,
        opening=opening,
        fresh_from=fresh_from,
        on_room=lambda: None,
        on_end=lambda error: None,
    )


async def answer(record: Incoming, emit) -> list[Outgoing]:
    return [Outgoing("r", None, b"%d@%d" % (record.offset, record.attempt))]


async def has(memory: Memory, count: int) -> None:
    while len(memory.records) < count:  # noqa: ASYNC110  the test's timeout bounds it
        await asyncio.sleep(0.001)


async def test_an_orderly_end_starts_the_count_anew():
    memory = Memory()
    one = lane(memory, answer, Progress(0), 1, 2)
    await one.start()
    assert decode(0, memory.marks[0].metadata) == (1, [])
    one.offer(delivered(0, 1, 2))
    await has(memory, 3)
    assert await one.settle(5.0)
    await one.close()
    assert memory.marks[-1] == Mark(3)
    assert memory.records == [b"0@1", b"1@1", b"2@1"]


async def test_records_of_a_crashed_opening_that_were_not_reached_keep_the_count():
    memory = Memory()
    two = lane(memory, answer, Progress(0), 2, 3)
    await two.start()
    two.suspend()
    two.offer(delivered(0, 1, 2, 3))
    assert await two.settle(5.0)
    await two.close()
    assert decode(0, memory.marks[-1].metadata) == (2, [])


async def test_only_what_may_have_been_worked_on_counts_as_repeated():
    memory = Memory()
    three = lane(memory, answer, Progress(0), 3, 2)
    await three.start()
    three.offer(delivered(0, 1, 2))
    await has(memory, 3)
    assert await three.settle(5.0)
    await three.close()
    assert memory.records == [b"0@3", b"1@3", b"2@1"]
    assert memory.marks[-1] == Mark(3)


async def test_work_cut_off_is_neither_committed_nor_counted_anew():
    memory = Memory()

    async def stuck(record, emit):
        if record.offset == 0:
            await asyncio.sleep(3600)
        return await answer(record, emit)

    one = lane(memory, stuck, Progress(0), 1, 0)
    await one.start()
    one.offer(delivered(0, 1, 2))
    await has(memory, 2)
    assert not await one.settle(0.1)
    await one.close()
    assert memory.records == [b"1@1", b"2@1"]
    assert memory.marks[-1].offset == 0
    assert decode(0, memory.marks[-1].metadata) == (1, [(1, 3)])


async def test_closing_at_once_leaves_no_coroutine_behind():
    one = lane(Memory(), answer, Progress(0), 1, 0)
    await one.start()
    one.offer(delivered(*range(5)))
    await asyncio.sleep(0)
    await one.close()
