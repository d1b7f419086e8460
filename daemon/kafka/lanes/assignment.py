"""The partitions this process has right now, each with its lane: opened, kept, handed over."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition

from daemon.kafka.brokers.producer import may_pass
from daemon.kafka.errors import LaneFenced, RecordsRefused
from daemon.kafka.lanes.lane import Lane
from daemon.kafka.lanes.lease import Lease
from daemon.kafka.lanes.room import Room
from daemon.kafka.progress.history import History
from daemon.kafka.progress.journal import JournalTopic
from daemon.kafka.progress.offset_map import Counts
from daemon.kafka.progress.offsets import Mark, Progress
from daemon.kafka.progress.suspects import Suspects, reach
from daemon.kafka.publishing.publisher import LanePublisher, Publisher
from daemon.kafka.reader import Reader
from daemon.kafka.settings import KafkaSettings

_RETRY_SECONDS = 1.0
_LOOKS = 20
log = structlog.get_logger(__name__)


class Fenced(NamedTuple):
    """Of a lane that ended while its process lives on. `singly`: see Lane."""

    counts: Counts
    singly: int


class Assignment(ConsumerRebalanceListener):  # type: ignore[misc]
    """Follows the group's rebalances.

    The group revokes everything at every rebalance and mostly gives it back. A lane therefore only stops
    handing out work while one is going on; it is closed when its partition went elsewhere, or when
    someone else committed to it in between.
    """

    def __init__(
        self,
        consumer: Reader,
        lease: Lease,
        publisher: Publisher,
        journal: JournalTopic,
        history: History,
        room: Room,
        settings: KafkaSettings,
        fail: Callable[[BaseException], None],
        begin: Callable[[str, int], None] | None = None,
    ) -> None:
        """`fail` ends the daemon: called with what no lane can recover from. `begin` hears of every topic and
        partition that a new lane is opened for: others may have answered its requests until now.
        """
        self._consumer, self._lease = consumer, lease
        self._publisher = publisher
        self._journal, self._history = journal, history
        self._room = room
        self._settings = settings
        self._fail = fail
        self._begin = begin
        self._openings: dict[TopicPartition, asyncio.Task[None]] = {}
        self._fenced: dict[TopicPartition, Fenced] = {}
        self._closings: list[asyncio.Task[None]] = []
        self._moving = True  # between revocation and assignment, and for good once draining
        self._draining = False
        self.lanes: dict[TopicPartition, Lane] = {}

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Finishes what fits the grace period; the client keeps up its heartbeats meanwhile."""
        with self._failing():
            self._moving = True
            self._lease.lose()
            await self._cancel_openings()
            lanes = self._suspend()
            await asyncio.gather(*[lane.settle(self._settings.rebalance_grace_seconds) for lane in lanes])

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Returns at once: heartbeats begin only afterwards, and opening a partition takes round trips."""
        with self._failing():
            self._consumer.pause(*assigned)
            if self._draining:
                return
            self._moving = False
            log.info("partitions_assigned", partitions=sorted(map(_name, assigned)))
            for partition in self.lanes.keys() - assigned:
                self._closing(self.lanes.pop(partition))
            self._fenced = {one: fenced for one, fenced in self._fenced.items() if one in assigned}
            for partition in assigned:
                self._open_soon(partition, after=0.0)

    def rewind(self, partition: TopicPartition) -> None:
        """Have what was read of it since its lane's last record delivered again."""
        lane = self.lanes.get(partition)
        if lane is not None and not lane.suspended and partition in self._consumer.assignment():
            self._consumer.seek(partition, lane.position)

    async def drain(self, grace_seconds: float) -> None:
        """Hand out nothing more, wait for what is in work, commit, close."""
        self._draining = self._moving = True
        self._consumer.pause(*self._consumer.assignment())
        await self._cancel_openings()
        lanes = self._suspend()
        settled = await asyncio.gather(*[lane.settle(grace_seconds) for lane in lanes])
        left = sum(lane.in_work for lane, done in zip(lanes, settled, strict=True) if not done)
        if left:
            log.warning("requests_handed_back", count=left)
        await asyncio.gather(*[lane.close() for lane in lanes], *self._closings)
        self.lanes.clear()

    def _suspend(self) -> list[Lane]:
        """All lanes, which hand out nothing more."""
        for partition, lane in self.lanes.items():
            lane.suspend()
            if partition.partition not in (self._consumer.partitions_for_topic(partition.topic) or ()):
                # Its topic was deleted, and the group's offsets with it. One that is committed now would
                # count for a topic that is made anew under the name.
                self._abandon(partition, lane)
        return list(self.lanes.values())

    def _abandon(self, partition: TopicPartition, lane: Lane) -> None:
        self._fenced[partition] = Fenced(lane.counts, 0)
        lane.abandon()

    def _open_soon(self, partition: TopicPartition, after: float) -> None:
        async def opening() -> None:
            with self._failing():
                lane = self.lanes.get(partition)
                if lane is not None and lane.ended:
                    del self.lanes[partition]
                    await asyncio.shield(self._closing(lane))
                await asyncio.sleep(after)
                try:
                    await self._open(partition)
                except Exception as error:
                    if not isinstance(error, LaneFenced) and not may_pass(error):
                        raise
                    log.warning("partition_not_opened", partition=_name(partition), reason=str(error))
                    self._open_soon(partition, after=_RETRY_SECONDS)

        former = self._openings.get(partition)
        if former is not None and former is not asyncio.current_task():
            former.cancel()
        self._openings[partition] = asyncio.create_task(opening(), name=f"open {_name(partition)}")

    async def _open(self, partition: TopicPartition) -> None:
        # A process that was frozen since it was given the partition would fence the rightful owner.
        if not await self._lease.renew():
            raise LaneFenced("The group does not acknowledge this process.")
        lane = self.lanes.get(partition)
        if lane is not None:
            if await self._is_still_ours(partition, lane):
                self._go_on(partition, lane)
                return
            self._abandon(partition, lane)
            del self.lanes[partition]
            await asyncio.shield(self._closing(lane))
        publisher = await self._publisher.open(partition.topic, partition.partition)
        try:
            lane = await self._lane(partition, publisher)
        except BaseException:
            await publisher.close()
            raise
        self.lanes[partition] = lane
        try:
            await lane.start()
        except BaseException:
            del self.lanes[partition]
            # Its opening may be committed all the same.
            suspects = self._fenced[partition].singly if partition in self._fenced else 0
            self._fenced[partition] = Fenced(lane.counts, suspects)
            await asyncio.shield(self._closing(lane))
            raise
        self._go_on(partition, lane)

    def _closing(self, lane: Lane) -> "asyncio.Task[None]":
        """To its end, whatever becomes of the caller: one that is half closed keeps its connections, and
        readers waiting for its transaction."""
        task = asyncio.create_task(lane.close())
        self._closings = [*(one for one in self._closings if not one.done()), task]
        return task

    async def _is_still_ours(self, partition: TopicPartition, lane: Lane) -> bool:
        """Whether nobody else committed since `lane` did."""
        async with lane.publishing:
            for _ in range(_LOOKS):
                if lane.ended or await self._committed(partition) == lane.committed:
                    return not lane.ended
                # A transaction's end is promised before the offset can be read.
                await asyncio.sleep(_RETRY_SECONDS / _LOOKS)
        return False

    async def _lane(self, partition: TopicPartition, publisher: LanePublisher) -> Lane:
        if self._begin is not None:
            self._begin(partition.topic, partition.partition)
        # Read only now: no former owner can commit any more.
        mark = await self._committed(partition)
        begin = (await self._consumer.beginning_offsets([partition]))[partition]
        end = (await self._consumer.end_offsets([partition]))[partition]
        if mark is not None and not begin <= mark.offset <= end:
            log.warning("offset_out_of_range", partition=_name(partition), offset=mark.offset, used=begin)
            mark = None
        mark = mark or Mark(begin)
        progress, counts = Progress.restore(mark)
        fenced = self._fenced.get(partition, Fenced(counts, 0))
        if fenced.counts.opening == counts.opening:
            counts = fenced.counts  # nobody else has opened it since, and this process lives
        return Lane(
            self._room,
            publisher,
            progress,
            await self._journal.open(partition),
            suspects=Suspects(mark, counts, end, self._settings),
            window=await self._history.window(partition),
            on_room=lambda: self._resume(partition),
            on_end=lambda error: self._ended(partition, error),
            singly=fenced.singly,
        )

    def _go_on(self, partition: TopicPartition, lane: Lane) -> None:
        self._consumer.seek(partition, lane.position)
        lane.resume()
        self._resume(partition)

    def _resume(self, partition: TopicPartition) -> None:
        lane = self.lanes.get(partition)
        if lane is not None and not lane.suspended and partition in self._consumer.assignment():
            self._consumer.resume(partition)

    def _ended(self, partition: TopicPartition, error: BaseException) -> None:
        if not isinstance(error, LaneFenced):
            self._fail(error)
            return
        self._room.answers.doubt()
        suspects = reach(self._settings) if isinstance(error, RecordsRefused) else 0
        if lane := self.lanes.get(partition):
            self._fenced[partition] = Fenced(lane.counts, suspects)
        log.warning("lane_fenced", partition=_name(partition), reason=str(error))
        if self._moving or partition not in self._consumer.assignment():
            return
        self._consumer.pause(partition)
        self._open_soon(partition, after=_RETRY_SECONDS)

    async def _committed(self, partition: TopicPartition) -> Mark | None:
        found = await self._consumer.committed_mark(partition)
        return Mark(found.offset, found.metadata) if found else None

    async def _cancel_openings(self) -> None:
        tasks = list(self._openings.values())
        self._openings.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """The client only logs what a listener raises; we must stop instead."""
        try:
            yield
        except Exception as error:
            self._fail(error)


def _name(partition: TopicPartition) -> str:
    return f"{partition.topic}/{partition.partition}"
