"""One assigned partition: its records on the way in, its answers on the way out."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aiokafka import ConsumerRecord

from daemon.kafka.answers import Answers
from daemon.kafka.deltas import Deltas, Send
from daemon.kafka.errors import HandlerFailed
from daemon.kafka.journal import LaneJournal, RequestNotes
from daemon.kafka.offsets import Mark, Progress
from daemon.kafka.order import KeyOrder
from daemon.kafka.publisher import LanePublisher
from daemon.kafka.record import Handler, Incoming, Outgoing
from daemon.kafka.settings import KafkaSettings

_CLOSE_SECONDS = 3.0  # for the courtesies of an orderly end; what matters is committed by then


@dataclass(frozen=True)
class Room:
    """What all lanes of the daemon share."""

    settings: KafkaSettings
    handler: Handler
    send: Send
    answers: Answers
    slots: asyncio.Semaphore


@dataclass(frozen=True, slots=True)
class _Answered:
    offset: int
    records: list[Outgoing]
    failure: HandlerFailed | None


class Lane:
    """Runs a partition's requests and publishes their answers together with the offsets.

    `opening` counts the times the partition was opened since it was last left with nothing in work; it
    travels in the commit metadata. Records below `fresh_from`, the partition's end when the lane was
    opened, may have been worked on before: their `attempt` is that number. All others are new: 1.
    """

    def __init__(
        self,
        room: Room,
        publisher: LanePublisher,
        progress: Progress,
        journal: LaneJournal,
        *,
        opening: int,
        fresh_from: int,
        on_room: Callable[[], None],
        on_end: Callable[[BaseException], None],
    ) -> None:
        """`on_room`: intake became possible again. `on_end`: the lane is fenced or failed, told once."""
        self._room = room
        self._publisher = publisher
        self._progress = progress
        self._journal = journal
        self._opening = opening
        self._fresh_from = fresh_from
        self._on_room = on_room
        self._on_end = on_end
        self._limit = 2 * room.settings.max_in_flight_per_partition
        self._outside: deque[Incoming] = deque()  # delivered, not yet taken
        self._order = KeyOrder(unordered=room.settings.unordered)
        self._work: set[asyncio.Task[None]] = set()
        self._ready: deque[_Answered] = deque()
        self._noted: deque[tuple[Sequence[Outgoing], asyncio.Future[None]]] = deque()
        self._publishing = False
        self.suspended = False
        self.ended = False
        self.full = False  # the partition should be paused
        self._changed = asyncio.Event()  # something to dispatch or to publish may be there
        self._idle = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.committed: Mark | None = None
        self.publishing = asyncio.Lock()  # whoever holds it may compare `committed` with the brokers' word

    async def start(self) -> None:
        """Commits the opening, which proves that the partition is ours, and starts working."""
        await self._publish([], self._progress.mark(self._opening))
        self._tasks = [asyncio.create_task(self._guard(run)) for run in (self._dispatch, self._publish_ready)]

    @property
    def position(self) -> int:
        """The offset after the last delivered one: where reading goes on."""
        return self._outside[-1].offset + 1 if self._outside else self._progress.position

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
        self._stir()

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
        clean = self._idle.is_set() and not self.ended
        clean = clean and (self._opening == 1 or self._progress.mark().offset >= self._fresh_from)
        tasks = [*self._tasks, *self._work]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if clean:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._publish([], self._progress.mark())
        await self._publisher.close()

    def _incoming(self, record: ConsumerRecord) -> Incoming:
        return Incoming(
            record.topic,
            record.partition,
            record.offset,
            record.key,
            record.value,
            record.headers,
            record.timestamp,
            self._opening if record.offset < self._fresh_from else 1,
        )

    def _stir(self) -> None:
        if self.ended or not (self._work or self._ready or self._noted or self._publishing):
            self._idle.set()
        else:
            self._idle.clear()
        self._changed.set()

    def _take(self) -> None:
        while self._outside and self._order.waiting < self._limit:
            record = self._outside[0]
            if not self._progress.has_room(record.offset):
                break
            self._outside.popleft()
            if self._progress.take(record.offset):
                self._order.add(record)
        self._stir()
        if self.full and len(self._outside) + self._order.waiting <= self._limit // 2:
            self.full = False
            self._on_room()

    async def _dispatch(self) -> None:
        settings = self._room.settings
        while True:
            while (
                self._order.runnable
                and not self.suspended
                and len(self._work) < settings.max_in_flight_per_partition
                and len(self._ready) < settings.commit_max_records
            ):
                await self._room.slots.acquire()
                if self.suspended:
                    self._room.slots.release()
                    break
                task = asyncio.create_task(self._guard(self._run, self._order.next()))
                self._work.add(task)
                task.add_done_callback(self._ran)
                self._take()
            self._changed.clear()
            await self._changed.wait()

    def _ran(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        self._room.slots.release()
        self._stir()

    async def _run(self, record: Incoming) -> None:
        failure = None
        outputs = await self._room.answers.refusal(record)
        if outputs is None:
            deltas = Deltas(record, self._room.answers, self._room.send)
            record = replace(record, notes=RequestNotes(self._journal, record, self._note))
            try:
                outputs = await self._room.handler(record, deltas)
            except Exception as error:
                failure = HandlerFailed(f"The handler failed at {record.address}: {error!r}")
                failure.__cause__ = error
                outputs = await self._room.answers.failure(record, HandlerFailed())
            await deltas.flush()
        self._ready.append(_Answered(record.offset, await self._room.answers.admit(record, outputs), failure))
        self._order.done(record)
        self._stir()

    def _note(self, records: Sequence[Outgoing]) -> "asyncio.Future[None]":
        """Done when the records are written; never when the lane has ended."""
        written = asyncio.get_running_loop().create_future()
        self._noted.append((records, written))
        self._stir()
        return written

    async def _publish_ready(self) -> None:
        settings = self._room.settings
        while True:
            while self._ready or self._noted:
                # Tools wait for their notes; replies may wait for company.
                if self._work and not self._noted and len(self._ready) < settings.commit_max_records:
                    await asyncio.sleep(settings.commit_interval_seconds)
                count = min(len(self._ready), settings.commit_max_records)
                batch = [self._ready.popleft() for _ in range(count)]
                self._publishing = True
                noted, self._noted = self._noted, deque()
                for answered in batch:
                    self._progress.finish(answered.offset)
                records = [record for notes, _ in noted for record in notes]
                records += [record for answered in batch for record in answered.records]
                await self._publish(records, self._progress.mark(self._opening))
                self._publishing = False
                for _, written in noted:
                    if not written.done():  # cancelled with the request that waited
                        written.set_result(None)
                for failure in (answered.failure for answered in batch if answered.failure):
                    raise failure
                self._take()
            self._changed.clear()
            await self._changed.wait()

    async def _publish(self, records: Sequence[Outgoing], mark: Mark) -> None:
        async with self.publishing:
            # Only what is committed already: without transactions a tombstone might outrun its offset.
            removals = self._journal.removals(self.committed.offset) if self.committed else []
            await self._publisher.publish([*records, *removals], mark)
            self.committed = mark

    async def _guard(self, run: Callable[..., Coroutine[Any, Any, None]], *arguments: Incoming) -> None:
        try:
            await run(*arguments)
        except Exception as error:
            if not self.ended:
                self.ended = True
                self.suspended = True
                self._stir()
                self._on_end(error)
