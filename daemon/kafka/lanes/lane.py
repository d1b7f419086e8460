"""One assigned partition: its records on the way in, its answers on the way out."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import structlog
from aiokafka import ConsumerRecord

from daemon.kafka.brokers.producer import may_pass, too_large_together
from daemon.kafka.errors import RecordsRefused
from daemon.kafka.intake.cancellations import Cancellation
from daemon.kafka.intake.order import KeyOrder
from daemon.kafka.intake.waiting import Waiting
from daemon.kafka.lanes.alarm import Alarm
from daemon.kafka.lanes.ready import Ready
from daemon.kafka.lanes.room import Room
from daemon.kafka.progress.duplicates import Window
from daemon.kafka.progress.journal import LaneJournal, RequestNotes
from daemon.kafka.progress.offset_map import Counts
from daemon.kafka.progress.offsets import Mark, Progress
from daemon.kafka.progress.suspects import Condemned, Suspects
from daemon.kafka.publishing.publisher import LanePublisher
from daemon.kafka.record import Incoming, Outgoing, Postponed

log = structlog.get_logger(__name__)

_CLOSE_SECONDS = 3.0  # for the courtesies of an orderly end; what matters is committed by then


class Lane:
    """Runs a partition's requests and publishes their answers together with the offsets.

    Which attempt a record is, and whether it may have ended the process before, `suspects` knows.
    """

    def __init__(
        self,
        room: Room,
        publisher: LanePublisher,
        progress: Progress,
        journal: LaneJournal,
        *,
        suspects: Suspects,
        window: Window,
        on_room: Callable[[], None],
        on_end: Callable[[BaseException], None],
        singly: int = 0,
    ) -> None:
        """`on_room`: intake became possible again. `on_end`: the lane is fenced or failed, told once.
        `singly`: so many answers are committed one by one: one of them may be refused.
        """
        self._room = room
        self._publisher = publisher
        self._progress = progress
        self._journal = journal
        self._suspects = suspects
        self._window = window
        self._suspect: Waiting | None = None  # taken alone; nothing else is taken until it is answered
        self._on_room = on_room
        self._on_end = on_end
        self._limit = 2 * room.settings.max_in_flight_per_partition
        self._outside: deque[Incoming] = deque()  # delivered, not yet taken
        self._order = KeyOrder(room.settings.tenant_weights)
        self._work: dict[asyncio.Task[None], Waiting] = {}
        self._alarm = Alarm(self._sweep)  # for the deadlines of what waits
        self._ready = Ready(room.settings, singly)
        self._noted: deque[tuple[Sequence[Outgoing], asyncio.Future[None] | None]] = deque()
        self._publishing = False
        self.suspended = False
        self.ended = False
        self.full = False  # the partition should be paused
        self._changed = asyncio.Event()  # something to dispatch may be there
        self._idle = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.committed: Mark | None = None
        self.publishing = asyncio.Lock()  # whoever holds it may compare `committed` with the brokers' word

    async def start(self) -> None:
        """Commits the opening, which proves that the partition is ours, and starts working."""
        await self._publish([], self._progress.mark(self._suspects.counts))
        self._tasks = [asyncio.create_task(self._guard(run)) for run in (self._dispatch, self._publish_ready)]

    @property
    def position(self) -> int:
        """The offset after the last delivered one: where reading goes on."""
        return self._outside[-1].offset + 1 if self._outside else self._progress.position

    @property
    def counts(self) -> Counts:
        """What the next opening goes by if the process lives on."""
        return self._suspects.left_in_order()

    @property
    def in_work(self) -> int:
        """Requests in the handler's hands."""
        return len(self._work)

    def offer(self, records: Iterable[ConsumerRecord]) -> None:
        """Take in delivered records, in the order of their offsets. Never blocks, never refuses."""
        self._outside.extend(self._incoming(record) for record in records)
        self.full = len(self._outside) + self._order.waiting >= self._limit
        self._take()

    def suspend(self) -> None:
        """Hand out nothing more; what is in work goes on."""
        self.suspended = True

    def resume(self) -> None:
        self.suspended = False
        self._sweep()
        self._stir()

    def abandon(self) -> None:
        """Commit nothing from now on: what this lane knows of its partition is not true any more."""
        self.ended = self.suspended = True
        for task in self._tasks:
            task.cancel()
        self._stir()

    def cancel(self, cancellation: Cancellation) -> Waiting | None:
        """Call off the request that is meant, in work here or waiting, and its duplicates. The first one."""
        here: list[Waiting] = [*self._work.values(), *self._order]
        found = list(filter(cancellation.means, here))
        for waiting in found:
            waiting.record.cancelled.set()
        if found:
            self._sweep()
        return found[0] if found else None

    async def settle(self, grace_seconds: float) -> bool:
        """After `suspend`: wait until nothing is in work and everything is committed; False when that took
        too long.
        """
        self._stir()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                await self._idle.wait()
        return self._idle.is_set()

    async def close(self) -> None:
        """Stop at once. What is in work is cancelled and belongs to the partition's next owner."""
        self.suspended = True
        # Nothing of this opening is left half done, nor of an earlier one: the next may count anew.
        clean = self._idle.is_set() and not self._order.resting and self._suspects.counts.opening == 1
        # What is resting may have failed with all of the process: that is no orderly end.
        counts = self._suspects.counts if self._order.resting else self._suspects.left_in_order()
        self._alarm.stop()
        self._ready.stop()
        tasks = [*self._tasks, *self._work]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Where a commit was cut off, what it was to carry counts as done already and may not be written.
        if not self.ended and not self._publishing:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._publish([], self._progress.mark() if clean else self._progress.mark(counts))
        await self._publisher.close()

    def _incoming(self, record: ConsumerRecord) -> Incoming:
        place = (record.topic, record.partition, record.offset)
        attempt = self._suspects.attempt(record.offset)
        return Incoming(*place, record.key, record.value, record.headers, record.timestamp, attempt)

    def _stir(self) -> None:
        if self.ended or not (self._work or self._ready or self._noted or self._publishing):
            self._idle.set()
        else:
            self._idle.clear()
        self._changed.set()
        # Nobody can come who would go with them: all that are in work wait for their notes. (Those that
        # nobody waits for are hurried already.)
        alone = self.suspended or len(self._noted) >= len(self._work)
        if (self._noted or self._ready) and (alone or self._ready.full):
            self._ready.hurry()

    def _take(self) -> None:
        while self._outside and self._order.waiting < self._limit and self._suspect is None:
            record = self._outside[0]
            if not self._progress.has_room(record.offset):
                break
            self._outside.popleft()
            if self._progress.take(record.offset):
                self._enter(record)
        self._stir()
        if self.full and len(self._outside) + self._order.waiting <= self._limit // 2:
            self.full = False
            self._on_room()

    def _enter(self, record: Incoming) -> None:
        waiting = self._room.waiting(record)
        if self._suspects.suspected(record.offset):
            waiting.suspect, self._suspect = True, waiting
        self._order.add(waiting)
        self._alarm.by(0.0 if record.cancelled.is_set() else waiting.deadline)

    def _sweep(self) -> None:
        """Have the handler answer what waits in vain, without a turn or a slot: that takes no work."""
        if self.suspended:
            return
        now = time.time()
        for waiting in self._order:
            if waiting.overdue(now) and not waiting.suspect:
                self._order.withdraw(waiting)
                self._begin(waiting, slot=False)
            elif not waiting.suspect:
                self._alarm.by(waiting.deadline)

    async def _dispatch(self) -> None:
        settings = self._room.settings
        while True:
            while (
                self._order.runnable
                and not self.suspended
                and len(self._work) < settings.max_in_flight_per_partition
                and not self._ready.full
            ):
                alone = self._suspect is not None
                await self._room.slots.acquire(lambda: self._order.priority, alone=alone)
                if self.suspended or not self._order.runnable:
                    self._room.slots.release(alone=alone)
                    break
                self._begin(self._order.next(), slot=True)
                self._take()
            self._changed.clear()
            await self._changed.wait()

    def _begin(self, waiting: Waiting, *, slot: bool) -> None:
        def ran(task: asyncio.Task[None]) -> None:
            del self._work[task]
            if slot:
                self._room.slots.release(alone=waiting.suspect)
            self._stir()

        task = asyncio.create_task(self._guard(self._run, waiting))
        self._work[task] = waiting
        task.add_done_callback(ran)

    async def _run(self, waiting: Waiting) -> None:
        record = waiting.record
        try:
            if waiting.suspect and self._suspects.condemned(record.offset):
                answered = await self._room.refuse(record, Condemned())
            else:
                if waiting.suspect:
                    self._suspects.tries(record.offset)
                    log.warning("request_tried_alone", request=record.address)
                    await self._publish([], self._progress.mark(self._suspects.counts))
                notes = RequestNotes(self._journal, record, partial(self._note, record), self._note_soon)
                first = self._window.find(waiting.fingerprint)
                record = replace(record, notes=notes)
                answered = await self._room.answer(record, waiting.fingerprint, first)
        except Postponed as postponed:
            self._rest(waiting, postponed.seconds)
            return
        self._window.note(record, answered.records)
        self._ready.add(answered, time.monotonic() - record.received)
        self._order.done(waiting)
        self._stir()

    def _rest(self, waiting: Waiting, seconds: float) -> None:
        def again() -> None:
            self._order.again(waiting)
            self._stir()

        waiting.record = replace(waiting.record, tries=waiting.record.tries + 1)
        self._order.rest(waiting)
        self._alarm.by(0.0 if waiting.record.cancelled.is_set() else waiting.deadline)
        asyncio.get_running_loop().call_later(seconds, again)

    def _note(self, record: Incoming, notes: Sequence[Outgoing]) -> "asyncio.Future[None]":
        """Done when the notes of a record are written; never when the lane has ended."""
        written = asyncio.get_running_loop().create_future()
        self._noted.append((notes, written))
        self._ready.wait(time.monotonic() - record.received)
        self._stir()
        return written

    def _note_soon(self, notes: Sequence[Outgoing]) -> None:
        """Nobody waits for these, and what they tell is lost with the process until they are written: they go
        at once, and what waits for others goes with them.
        """
        self._noted.append((notes, None))
        self._stir()
        self._ready.hurry()

    async def _publish_ready(self) -> None:
        while True:
            await self._ready.due()
            batch = self._ready.take()
            self._publishing = True
            noted, self._noted = self._noted, deque()
            for answered in batch:
                self._progress.finish(answered.offset)
            records = [record for notes, _ in noted for record in notes]
            records += [record for answered in batch for record in answered.records]
            if batch:
                self._suspects.finished(self._suspect is not None, self._progress.done_up_to)
            try:
                await self._publish(records, self._progress.mark(self._suspects.counts))
            except RecordsRefused as refused:
                cause = refused.__cause__ or refused
                if too_large_together(cause, records):
                    raise
                if not self._room.answers.refuse(records) and not may_pass(cause):
                    raise cause from None
                raise
            self._suspect = None if batch else self._suspect
            self._publishing = False
            for _, written in noted:
                if written is not None and not written.done():  # cancelled with the request that waited
                    written.set_result(None)
            for failure in (answered.failure for answered in batch if answered.failure):
                raise failure
            self._take()

    async def _publish(self, records: Sequence[Outgoing], mark: Mark) -> None:
        async with self.publishing:
            # Only what is committed already: without transactions a tombstone might outrun its offset.
            removals = self._journal.removals(self.committed.offset) if self.committed else []
            await self._publisher.publish([*records, *removals], mark)
            self.committed = mark

    async def _guard(self, run: Callable[..., Coroutine[Any, Any, None]], *arguments: Waiting) -> None:
        try:
            await run(*arguments)
        except Exception as error:
            if not self.ended:
                self.ended = True
                self.suspended = True
                self._stir()
                self._on_end(error)
