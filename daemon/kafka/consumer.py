"""Requests in, answers out: the Kafka side of the daemon in four verbs."""

import asyncio
from collections.abc import Callable
from typing import Any, Self

import structlog
from aiokafka.errors import InvalidSessionTimeoutError

from daemon.kafka.brokers.shared import SharedProducer
from daemon.kafka.brokers.topics import Topics
from daemon.kafka.errors import TimeoutRefused
from daemon.kafka.intake.cancellations import Cancellation, Cancellations
from daemon.kafka.intake.control import Control
from daemon.kafka.intake.slots import Slots
from daemon.kafka.intake.waiting import REQUEST_BYTES
from daemon.kafka.lanes.assignment import Assignment
from daemon.kafka.lanes.lease import Lease
from daemon.kafka.lanes.room import Room
from daemon.kafka.progress.history import History
from daemon.kafka.progress.journal import JournalTopic
from daemon.kafka.publishing.answers import Answers
from daemon.kafka.publishing.at_least_once import AtLeastOncePublisher
from daemon.kafka.publishing.exactly_once import TransactionalPublisher
from daemon.kafka.publishing.publisher import Publisher
from daemon.kafka.reader import Reader
from daemon.kafka.record import Handler, Incoming, Outgoing
from daemon.kafka.settings import KafkaSettings
from schemas.control import EngineOrder
from schemas.errors import AutoGLMError

log = structlog.get_logger(__name__)

# The client has one fetch under way per broker; a partition that has just been read waits for its end.
_POLL_MILLISECONDS = 500
_FETCH_WAIT_MILLISECONDS = 50
# A paused partition's prefetched records are dropped and fetched again later: keep that small.
_FETCH_BYTES = 256 * 1024
_DOUBT_SECONDS = 0.1  # before records are read again that came while nobody knew whose they are


class Consumer:
    """`start`, `run` until `drain` or a failure, `stop`. One object is used once.

    `on_order` hears of what the control topic says of other things than requests, `on_begin` of topic and
    partition whenever others may have answered its requests before. `handler` refuses values of more than
    `request_bytes`. `told` hears of requests that are answered with an error without it.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        handler: Handler,
        on_order: Callable[[EngineOrder], None] = lambda order: None,
        on_begin: Callable[[str, int], None] | None = None,
        request_bytes: int = REQUEST_BYTES,
        told: Callable[[Incoming, AutoGLMError], None] = lambda record, error: None,
    ) -> None:
        self._settings = settings
        self._handler = handler
        self._draining = asyncio.Event()
        self._silence_told = False
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._poll: asyncio.Task[None] | None = None
        self._orders: asyncio.Task[None] | None = None
        self._topics = Topics(settings)
        self._producer = SharedProducer(settings)
        self._consumer = Reader(
            **settings.connection(),
            group_id=settings.group_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            session_timeout_ms=int(settings.session_timeout_seconds * 1000),
            heartbeat_interval_ms=int(settings.session_timeout_seconds * 1000 / 4),
            rebalance_timeout_ms=int(
                (settings.rebalance_grace_seconds + settings.session_timeout_seconds) * 1000
            ),
            fetch_max_wait_ms=_FETCH_WAIT_MILLISECONDS,
            max_partition_fetch_bytes=_FETCH_BYTES,
        )
        publisher: Publisher = (
            TransactionalPublisher(settings)
            if settings.delivery == "exactly-once"
            else AtLeastOncePublisher(self._producer, self._consumer.commit, self._topics)
        )
        self._control = Control(settings, self._cancel, on_order)
        self._cancellations = Cancellations(settings.cancel_keep_seconds)
        room = Room(
            settings,
            handler,
            self._producer.send,
            Answers(settings, self._topics),
            Slots(settings.max_in_flight),
            self._cancellations,
            request_bytes,
            told,
        )
        journal = JournalTopic(settings, self._topics)
        history = History(settings, self._topics)
        self._lease = Lease(self._consumer, settings.session_timeout_seconds)
        self._assignment = Assignment(
            self._consumer, self._lease, publisher, journal, history, room, settings, self._fail, on_begin
        )

    async def start(self) -> None:
        """Verify or create topics, connect, join the group.

        Raises TopicMissing, TimeoutRefused, or aiokafka's KafkaError when the brokers cannot be reached.
        """
        try:
            await self._topics.start()
            await self._producer.start()
            await self._control.start()
            self._consumer.subscribe(self._settings.request_topics, listener=self._assignment)
            await self._consumer.start()
        except BaseException as error:
            await self.stop()
            if isinstance(error, InvalidSessionTimeoutError):
                raise TimeoutRefused(
                    f"The brokers do not accept {self._settings.session_timeout_seconds:g} s as "
                    "`kafka.session_timeout_seconds`; stay between their `group.min.session.timeout.ms` and "
                    "`group.max.session.timeout.ms`."
                ) from error
            raise

    async def run(self) -> None:
        """Serve requests. Returns after `drain`; raises the first failure that no lane can recover from."""
        self._poll = asyncio.create_task(self._poll_for_ever(), name="kafka poll")
        self._orders = asyncio.create_task(self._control.run(), name="kafka control")
        drained = asyncio.create_task(self._draining.wait())
        ends: set[asyncio.Future[Any]] = {self._poll, self._orders, self._failure, drained}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        drained.cancel()
        for ended in (self._failure, self._poll, self._orders):
            if ended.done():
                ended.result()

    async def drain(self, grace_seconds: float | None = None) -> None:
        """Take no more requests, let those in work finish within the grace period, commit.

        What does not finish is cancelled and redelivered to the partition's next owner.
        """
        self._draining.set()
        grace = self._settings.drain_grace_seconds if grace_seconds is None else grace_seconds
        await self._assignment.drain(grace)

    async def stop(self) -> None:
        """Leave the group and close every connection. Without `drain` before it, work is dropped."""
        self._draining.set()
        await self._assignment.drain(0.0)
        await self._consumer.stop()
        await self._control.stop()
        tasks = [task for task in (self._poll, self._orders) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._producer.stop()
        await self._topics.stop()
        if self._failure.done() and not self._failure.cancelled():
            self._failure.exception()

    async def publish(self, record: Outgoing) -> None:
        """Write a record that belongs to no request, such as a metrics snapshot."""
        await self._producer.send_all([record])

    @property
    def in_work(self) -> int:
        """Requests in the handler's hands, all partitions."""
        return sum(lane.in_work for lane in self._assignment.lanes.values())

    @property
    def partitions(self) -> int:
        """Partitions that this process works on."""
        return sum(not lane.suspended for lane in self._assignment.lanes.values())

    @property
    def silent(self) -> bool:
        """Whether for a session timeout no broker has acknowledged that its partitions are this process's:
        it takes in nothing then, and what is ready may not be committed."""
        return self._lease.lapsed

    def lag(self) -> int:
        """Records of the assigned partitions that were not delivered to us yet, as far as known."""
        lag = 0
        for partition, lane in self._assignment.lanes.items():
            if partition in self._consumer.assignment():
                highwater = self._consumer.highwater(partition)
                # Behind the last record there may be markers of transactions, and what they took back.
                read_to = lane.position if lane.suspended else self._consumer.read_to(partition)
                lag += max(0, (highwater or 0) - max(read_to, lane.position))
        return lag

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _cancel(self, cancellation: Cancellation) -> None:
        lanes = self._assignment.lanes.values()
        # Each is told: without a key, requests of one id may wait in several partitions.
        found = next(filter(None, [lane.cancel(cancellation) for lane in lanes]), None)
        log.info("cancel", id=cancellation.id or cancellation.correlation_id, found=found is not None)
        self._cancellations.keep(cancellation, found)

    async def _poll_for_ever(self) -> None:
        # Goes on while draining, with all partitions paused: whoever stops polling is taken for dead.
        lanes = self._assignment.lanes
        most = 2 * self._settings.max_in_flight
        while True:
            # Never cancelled while the consumer lives: the client would leak its fetch context.
            batches = await self._consumer.getmany(timeout_ms=_POLL_MILLISECONDS, max_records=most)
            self._tell_silence()
            if batches and not self._lease.held:
                for partition in batches:
                    self._assignment.rewind(partition)
                await asyncio.sleep(_DOUBT_SECONDS)
                continue
            for partition, records in batches.items():
                lane = lanes.get(partition)
                if lane is None or lane.suspended:
                    continue  # paused since; the lane's opening seeks to where it stands
                lane.offer(records)
                if lane.full:
                    self._consumer.pause(partition)

    def _tell_silence(self) -> None:
        """The client tries to reach brokers that are away without a word."""
        if self.silent == self._silence_told or self._draining.is_set():
            return
        self._silence_told = self.silent
        if self.silent:
            log.warning(
                "kafka_silent",
                servers=self._settings.bootstrap_servers,
                seconds=self._settings.session_timeout_seconds,
                check="the brokers are up, this host reaches what they advertise",
            )
        else:
            log.info("kafka_heard_again")

    def _fail(self, error: BaseException) -> None:
        heard = not self._draining.is_set()  # by whoever waits for `run`
        if not self._failure.done():
            self._failure.set_exception(error)
        elif heard:
            log.error("further_failure", error=repr(error))
        if not heard:
            log.error("failed_while_stopping", error=repr(error))
