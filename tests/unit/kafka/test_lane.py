"""A lane without a broker: what it commits when it is closed, and how it counts attempts."""

import asyncio
import contextlib
import json
import time
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import MessageSizeTooLargeError

from daemon.errors import Cancelled
from daemon.kafka.errors import RecordsRefused
from daemon.kafka.intake.cancellations import Cancellation, Cancellations
from daemon.kafka.intake.slots import Slots
from daemon.kafka.lanes.alarm import Alarm
from daemon.kafka.lanes.lane import Lane
from daemon.kafka.lanes.room import Room
from daemon.kafka.progress.duplicates import Window
from daemon.kafka.progress.journal import LaneJournal
from daemon.kafka.progress.offset_map import Counts, decode
from daemon.kafka.progress.offsets import Mark, Progress
from daemon.kafka.progress.suspects import Suspects
from daemon.kafka.record import Incoming, Outgoing, Postponed
from daemon.kafka.settings import KafkaSettings


class Answers:
    """Lets everything pass."""

    async def problem(self, record):
        return None

    async def admit(self, record, outputs):
        return outputs

    def refuse(self, records):
        return False

    def failure(self, record, error):
        return [Outgoing("r", None, f"{record.offset}:{error.code.value}".encode())]


class Memory:
    """A publisher that remembers."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.marks: list[Mark] = []

    async def publish(self, records, mark):
        self.records += [record.value for record in records]
        self.marks.append(mark)

    async def close(self): ...


def delivered(*offsets: int, key=None, value=None, headers=()) -> list[SimpleNamespace]:
    fields = {"topic": "t", "partition": 0, "key": key, "headers": headers, "timestamp": 0}
    return [SimpleNamespace(offset=o, value=value or b"%d" % o, **fields) for o in offsets]


def lane(memory: Memory, handler, progress: Progress, opening: int, fresh_from: int, **more) -> Lane:
    before = Counts(opening - 1) if opening > 1 else Counts()
    return opened(memory, handler, Mark(progress.position), before, fresh_from, **more)


def opened(
    memory: Memory, handler, mark: Mark, before: Counts, fresh_from: int, slots: Slots | None = None, **more
) -> Lane:
    at_once = {"commit_interval_seconds": 0.0, "commit_patience": 0.0}
    chosen = KafkaSettings(**{"max_in_flight": 2, **at_once, **more})
    slots, cancellations = slots or Slots(chosen.max_in_flight), Cancellations(60.0)
    room = Room(chosen, handler, None, Answers(), slots, cancellations, 2**20, lambda record, error: None)
    progress = Progress.restore(mark)[0]
    return Lane(
        room,
        memory,
        progress,
        LaneJournal("journal", TopicPartition("t", 0), 10**6, {}),
        suspects=Suspects(mark, before, fresh_from, chosen),
        window=Window(chosen.duplicate_window_seconds, chosen.duplicate_window_requests),
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
    assert decode(0, memory.marks[0].metadata) == (Counts(1, 1), [])
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
    assert decode(0, memory.marks[-1].metadata) == (Counts(2), [])


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
    assert decode(0, memory.marks[-1].metadata) == (Counts(1), [(1, 3)])


async def test_closing_at_once_leaves_no_coroutine_behind():
    one = lane(Memory(), answer, Progress(0), 1, 0)
    await one.start()
    one.offer(delivered(*range(5)))
    await asyncio.sleep(0)
    await one.close()


async def test_a_postponed_request_keeps_its_key_waiting_and_nobody_else():
    memory, tries = Memory(), []

    async def busy(record, emit):
        if record.offset == 0:
            tries.append(record.tries)
            if record.tries < 3:
                raise Postponed(0.05)
        return await answer(record, emit)

    one = lane(memory, busy, Progress(0), 1, 0)
    await one.start()
    one.offer([*delivered(0, 1, key=b"a"), *delivered(2, 3, key=b"b")])
    await has(memory, 4)
    await one.close()
    assert memory.records == [b"2@1", b"3@1", b"0@1", b"1@1"]
    assert tries == [1, 2, 3]


async def test_a_resting_request_is_handed_back_at_once():
    memory = Memory()

    async def busy(record, emit):
        raise Postponed(3600)

    one = lane(memory, busy, Progress(0), 1, 0)
    await one.start()
    one.offer(delivered(0))
    await asyncio.sleep(0.02)
    one.suspend()
    assert await one.settle(5.0)
    await one.close()
    # Whatever kept it from being answered may have ended the process: this is no orderly end.
    assert decode(0, memory.marks[-1].metadata) == (Counts(1, 1), [])


async def test_what_waits_in_vain_is_answered_before_its_turn():
    memory, release = Memory(), asyncio.Event()

    async def slow(record, emit):
        if record.offset == 0:
            await release.wait()
        return [Outgoing("r", None, b"%d%s" % (record.offset, b"!" * record.cancelled.is_set()))]

    one = lane(memory, slow, Progress(0), 1, 0, max_in_flight=1)
    await one.start()
    soon = (("deadline", str(time.time() + 0.1).encode()),)
    one.offer(delivered(0, key=b"a"))
    one.offer(delivered(1, key=b"a", headers=soon))
    one.offer(delivered(2, key=b"a", value=b'{"id": "two"}'))
    one.offer(delivered(3, key=b"a", headers=(("correlation-id", b"three"),)))
    one.offer(delivered(4, key=b"a"))
    await asyncio.sleep(0)
    assert one.cancel(Cancellation(id="two", key=b"other")) is None
    assert one.cancel(Cancellation(id="two")).record.offset == 2
    assert one.cancel(Cancellation(correlation_id="three", key=b"a")).record.offset == 3
    await has(memory, 3)
    assert sorted(memory.records) == [b"1", b"2!", b"3!"]
    release.set()
    await has(memory, 5)
    await one.close()
    assert memory.records[3:] == [b"0", b"4"]


async def test_a_cancel_reaches_a_request_in_work_and_one_that_has_not_come_yet():
    memory = Memory()

    async def until_cancelled(record, emit):
        with contextlib.suppress(Cancelled), record.cancelled.interrupting():
            await asyncio.Event().wait()
        return await answer(record, emit)

    one = lane(memory, until_cancelled, Progress(0), 1, 0)
    one._room.cancellations.keep(Cancellation(id="early"))
    await one.start()
    one.offer(delivered(0, value=b'{"id": "early"}'))
    one.offer(delivered(1, value=b'{"id": "other"}'))
    await has(memory, 1)
    assert one.cancel(Cancellation(id="other")).record.offset == 1
    await has(memory, 2)
    # A cancel that found its request means no later one of that id.
    one.offer(delivered(2, value=b'{"id": "early"}'))
    await asyncio.sleep(0.02)
    assert one.in_work == 1
    await one.close()


async def test_a_record_that_ends_the_process_again_and_again_is_found_and_refused():
    """Each life is a process that dies as soon as offset 3 is worked on."""
    answered: list[bytes] = []
    mark, lives = Mark(0), 0
    while lives < 10 and len(answered) < 6:
        lives += 1
        memory, died, together = Memory(), asyncio.Event(), []

        async def handler(record, emit, died=died, together=together):
            together.append(record.offset)
            if record.offset == 3:
                died.set()
            if died.is_set():
                await asyncio.sleep(3600)
            return await answer(record, emit)

        before = Progress.restore(mark)[1]
        life = opened(memory, handler, mark, before, 6, max_in_flight=4)
        await life.start()
        life.offer([one for one in delivered(*range(6)) if one.offset >= mark.offset])
        ended = asyncio.create_task(died.wait())
        done = asyncio.create_task(has(memory, 6 - len(answered)))
        await asyncio.wait([ended, done], return_when=asyncio.FIRST_COMPLETED)
        ended.cancel(), done.cancel()
        if died.is_set():
            mark = memory.marks[-1]  # nothing that comes later was written
            answered += memory.records[:]
            life.ended = True
        else:
            answered += memory.records
        await life.close()
    # Three lives together, two alone with the culprit, one that refuses it.
    assert lives == 6
    assert b"3:retries_exhausted" in answered
    assert sorted(value[:1] for value in answered) == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert memory.marks[-1] == Mark(6)


async def test_replies_wait_for_company_no_longer_than_others_may_come():
    memory, go_on = Memory(), asyncio.Event()

    async def handler(record, emit):
        if record.offset >= 2:
            await go_on.wait()
        return await answer(record, emit)

    one = lane(memory, handler, Progress(0), 1, 0, max_in_flight=4, commit_interval_seconds=5.0)
    await one.start()
    one.offer(delivered(0, 1, 2, 3))
    await asyncio.sleep(0.02)
    assert memory.marks == [Mark(0, memory.marks[0].metadata)]  # 0 and 1 are done, 2 and 3 may come soon
    go_on.set()
    await has(memory, 4)
    assert [mark.offset for mark in memory.marks] == [0, 4]
    await one.close()


async def test_notes_wait_for_company_no_longer_than_others_may_come():
    memory, go_on = Memory(), asyncio.Event()

    async def handler(record, emit):
        if record.offset >= 1:
            await go_on.wait()
        await record.notes.write({"step": b"%d" % record.offset})
        return await answer(record, emit)

    one = lane(memory, handler, Progress(0), 1, 0, max_in_flight=3, commit_interval_seconds=5.0)
    await one.start()
    one.offer(delivered(0, 1, 2))
    await asyncio.sleep(0.02)
    assert memory.records == []
    go_on.set()
    await has(memory, 6)
    assert memory.records[:3] == [b"0", b"1", b"2"] and len(memory.marks) == 3
    await one.close()


async def test_what_became_of_a_tool_is_kept_at_once_and_takes_along_what_waits(monkeypatch):
    monkeypatch.setattr(Alarm, "by", lambda self, moment: None)  # what waits for others waits for ever
    memory, go_on = Memory(), asyncio.Event()

    async def handler(record, emit):
        if record.offset == 0:
            await record.notes.write({"step": b"intended"})
        elif record.offset == 1:
            record.notes.write_soon({"step": b"done"})
        await go_on.wait()
        return await answer(record, emit)

    one = lane(memory, handler, Progress(0), 1, 0, max_in_flight=3, commit_interval_seconds=0.02)
    await one.start()
    one.offer(delivered(0, 1, 2))
    await has(memory, 2)
    assert memory.records == [b"intended", b"done"] and len(memory.marks) == 2
    go_on.set()
    await has(memory, 5)
    await one.close()


async def test_what_a_commit_leaves_over_is_in_the_next():
    memory = Memory()
    one = lane(memory, answer, Progress(0), 1, 0, max_in_flight=8, commit_max_records=2)
    await one.start()
    one.offer(delivered(*range(5)))
    await has(memory, 5)
    assert one.committed.offset == 5
    await one.close()


async def test_a_duplicate_waits_for_its_first_and_gets_the_same_reply_without_work():
    memory, worked = Memory(), []

    async def ok(record, emit):
        worked.append(record.offset)
        await asyncio.sleep(0.01)
        status = "error" if b"bad" in record.value else "ok"
        return [Outgoing("r", None, b'{"status": "%s", "by": %d}' % (status.encode(), record.offset))]

    one = lane(memory, ok, Progress(0), 1, 0, max_in_flight=8)
    await one.start()
    one.offer(delivered(0, 1, value=b'{"id": "a"}'))
    one.offer(delivered(2, value=b'{"id": "a"}', key=b"other"))
    one.offer(delivered(3, value=b'{"id": "a", "query": "other"}'))
    one.offer(delivered(4, 5, value=b'{"id": "bad"}'))
    one.offer(delivered(6, 7, value=b'{"query": "no id"}'))
    one.offer(delivered(8, 9, value=b"{}", headers=(("correlation-id", b"c"),)))
    await has(memory, 10)
    await one.close()
    assert sorted(worked) == [0, 2, 3, 4, 5, 6, 7, 8]
    assert memory.records.count(b'{"status": "ok", "by": 0}') == 2
    assert memory.records.count(b'{"status": "ok", "by": 8}') == 2


@pytest.mark.parametrize("together", [1, 2])
async def test_what_is_too_large_together_is_tried_alone_and_ends_nobody(together):
    """The client puts records of up to 16 KiB into one batch, whatever less a topic takes."""
    memory, ended = Memory(), []
    publish = memory.publish

    async def limited(records, mark):
        if records:
            raise RecordsRefused from MessageSizeTooLargeError()
        await publish(records, mark)

    memory.publish = limited
    one = lane(memory, answer, Progress(0), 1, 0, commit_interval_seconds=5.0)
    one._on_end = ended.append
    await one.start()
    one.offer(delivered(*range(together)))
    while not ended:  # noqa: ASYNC110  the test's timeout bounds it
        await asyncio.sleep(0.001)
    await one.close()
    # Only the former is passed: the partition is opened anew and answers are committed one by one.
    assert [type(error) for error in ended] == [RecordsRefused if together > 1 else MessageSizeTooLargeError]


async def test_nobody_gets_the_reply_of_another_tenant():
    memory = Memory()

    async def ok(record, emit):
        return [Outgoing("r", None, b'{"status": "ok", "by": %d}' % record.offset)]

    one = lane(memory, ok, Progress(0), 1, 0, max_in_flight=8)
    await one.start()
    for offset, tenant in enumerate([b"a", b"b", b"a", None, None]):
        headers = (("tenant", tenant),)
        one.offer(delivered(offset, key=b"k", value=b'{"id": "1", "query": "my orders"}', headers=headers))
    await has(memory, 5)
    await one.close()
    assert [json.loads(reply)["by"] for reply in memory.records] == [0, 1, 0, 3, 3]


async def test_a_commit_that_is_cut_off_is_not_made_good_without_its_replies():
    memory, begun = Memory(), asyncio.Event()
    publish = memory.publish

    async def stuck(records, mark):
        if records:
            begun.set()
            await asyncio.Event().wait()
        await publish(records, mark)

    memory.publish = stuck
    one = lane(memory, answer, Progress(0), 1, 0)
    await one.start()
    one.offer(delivered(0))
    await begun.wait()
    await one.close()
    assert not memory.records
    assert memory.marks[-1].offset == 0


async def test_a_cancel_means_what_is_in_work_and_what_waits_behind_it_as_its_duplicate():
    memory, begun = Memory(), asyncio.Event()

    async def until_cancelled(record, emit):
        begun.set()
        with contextlib.suppress(Cancelled), record.cancelled.interrupting():
            await asyncio.Event().wait()
        return await answer(record, emit)

    one = lane(memory, until_cancelled, Progress(0), 1, 0)
    await one.start()
    one.offer(delivered(0, 1, value=b'{"id": "a"}'))
    await begun.wait()
    assert one.cancel(Cancellation(id="a")).record.offset == 0
    await has(memory, 2)
    await one.close()


async def test_the_highest_priority_of_all_partitions_is_next():
    memory, slots, free = Memory(), Slots(1), asyncio.Event()

    async def slow(record: Incoming, emit) -> list[Outgoing]:
        await free.wait()
        return [Outgoing("r", None, record.value)]

    lanes = [lane(memory, slow, Progress(0), 1, 9, slots=slots) for _ in range(2)]
    for one in lanes:
        await one.start()
    lanes[0].offer(delivered(0, value=b"in work"))
    await asyncio.sleep(0.01)
    lanes[0].offer(delivered(1, 2, value=b"low"))
    await asyncio.sleep(0.01)
    lanes[1].offer(delivered(0, value=b"high", headers=(("priority", b"9"),)))
    await asyncio.sleep(0.01)
    free.set()
    await has(memory, 4)
    assert memory.records == [b"in work", b"high", b"low", b"low"]
    for one in lanes:
        await one.close()
