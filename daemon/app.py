"""The daemon as a whole: what is started in which order, what ends it, and how it ends."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, NoReturn

import structlog
from aiokafka.errors import KafkaError

from daemon import heap
from daemon.agent.agent import Agent
from daemon.agent.recall import Recall
from daemon.ending import end_at_once, exit_code
from daemon.handler import Handler
from daemon.kafka.brokers.connecting import connected
from daemon.kafka.consumer import Consumer
from daemon.kafka.publishing.audit import AuditTopic
from daemon.kafka.record import Outgoing
from daemon.ops.health import HealthServer
from daemon.ops.metrics import Metrics
from daemon.ops.notify import notify, watchdog_seconds
from daemon.routing.fleet import Fleet
from daemon.routing.orders import Orders
from daemon.routing.wanted import wanted_by
from daemon.settings import Settings
from daemon.tools.access import Access
from daemon.tools.audit import Audit
from daemon.tools.catalog import Catalog
from daemon.tools.executor import Executor
from daemon.tools.loading import load_tools
from engines.errors import GpuFailed
from schemas.control import EngineOrder, Reload

log = structlog.get_logger("daemon")

_FLUSH_SECONDS = 5.0


class App:
    """Start with `run`; one object runs once. `read` gives the settings again when a reload asks for it."""

    def __init__(self, settings: Settings, read: Callable[[], Settings]) -> None:
        self._settings = settings
        self._fleet = Fleet()
        self._orders = Orders(self._fleet, read, settings.instance)
        self._consumer: Consumer | None = None  # until the brokers have been reached
        self._stopping = asyncio.Event()
        self._forced = asyncio.Event()
        self._reload = asyncio.Event()

    async def run(self) -> int:
        """Serve until a signal or a failure. Returns the exit status: 0 after a signal, 74 when the GPU
        failed, 78 when a setting turned out to be wrong, 1 after any other failure.

        Raises AutoGLMError when something is wrong before serving began. A second signal before that ends the
        process at once.
        """
        loop = asyncio.get_running_loop()
        life = asyncio.create_task(self._live())
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number, life)
        loop.add_signal_handler(signal.SIGHUP, self._order, Reload(type="reload"))
        try:
            return await life
        except asyncio.CancelledError:
            if not self._stopping.is_set():
                raise
            log.info("stopped")
            return 0

    async def _live(self) -> int:
        settings = self._settings
        settings.kafka.connection()  # what is wrong with it should be told before engines are loaded
        tools = settings.tools
        catalog = Catalog(
            load_tools(tools.modules), tuple(tools.declarations), tuple(tools.plugins), tools.entry_points
        )
        memory, fleet = settings.memory.open(), self._fleet
        try:
            await fleet.become(*await asyncio.to_thread(wanted_by, settings))
            metrics = Metrics(settings.instance)
            audit = Audit(settings.instance)
            recall = Recall(settings.memory, memory, metrics.count_memory_failure)
            agent = Agent(
                fleet.router,
                catalog.registry,
                executor=Executor(
                    timeout=tools.timeout_seconds, result_bytes=tools.result_bytes, executed=audit.note
                ),
                access=Access(tools.require, tuple(tools.grants)),
                max_rounds=settings.agent.max_rounds,
                max_tokens=settings.agent.max_tokens,
                system=settings.agent.system,
                max_tools=settings.agent.max_tools,
                recall=recall,
            )
            handler = Handler(agent, metrics, settings.kafka, settings.limits)

            async def connect() -> Consumer:
                consumer = Consumer(
                    settings.kafka,
                    handler,
                    self._order,
                    memory.forget,
                    settings.limits.request_bytes,
                    handler.refused,
                )
                await consumer.start()
                return consumer

            catalog.on_change = partial(setattr, agent, "registry")
            await catalog.reload()
            return await self._serve(metrics, connect, catalog, audit)
        finally:
            await catalog.close()
            await memory.close()
            await fleet.close()

    async def _serve(
        self, metrics: Metrics, connect: Callable[[], Awaitable[Consumer]], catalog: Catalog, audit: Audit
    ) -> int:
        settings, fleet = self._settings, self._fleet

        def refresh() -> None:
            metrics.observe(fleet.stats(), self._consumer.lag() if self._consumer else 0)

        health = HealthServer(
            settings.metrics.host,
            settings.metrics.port,
            metrics.registry,
            alive=fleet.fatal,
            ready=self._problem,
            refresh=refresh,
        )
        async with contextlib.AsyncExitStack() as stack:
            port = await health.start()
            stack.push_async_callback(health.stop)
            self._consumer = consumer = await connected(connect, settings.kafka)
            stack.push_async_callback(consumer.stop)
            audits = AuditTopic(settings.kafka.audit_topic, consumer.publish)
            heap.settle()
            log.info(
                "serving",
                engines=fleet.router.pool.names,
                topics=settings.kafka.request_topics,
                metrics=f"http://{settings.metrics.host}:{port}/metrics",
            )
            notify("READY=1")
            failure = await self._until_stopped(
                consumer.run(),
                fleet.watch(),
                self._orders.run(),
                self._report(metrics, consumer, refresh),
                self._keep_alive(),
                audit.run(audits.write),
                catalog.watch(settings.tools.watch_seconds, self._reload),
            )
            await self._drain(consumer)
            await _within(_FLUSH_SECONDS, audit.flush(audits.write))
        log.info("stopped")
        return _exit_code(failure)

    def _problem(self) -> str | None:
        """Why no request can be answered well, as a sentence."""
        if self._consumer is None:
            return "no broker has been reached yet; the log says why"
        if self._consumer.silent:
            return "no broker has answered for `kafka.session_timeout_seconds`; see whether they are up"
        return self._fleet.problem() if self._consumer.partitions else "no partition is assigned yet"

    async def _until_stopped(self, *work: Coroutine[Any, Any, None]) -> BaseException | None:
        """Run everything side by side until a signal comes or one of them ends, which is a failure."""
        tasks = [asyncio.create_task(part) for part in work]
        stop = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({*tasks, stop}, return_when=asyncio.FIRST_COMPLETED)
        failures = [task.exception() or RuntimeError(f"{task} ended") for task in tasks if task.done()]
        # The consumer's own task ends with its drain; the others have nothing to finish.
        for task in (*tasks[1:], stop):
            task.cancel()
        await asyncio.gather(*tasks[1:], stop, return_exceptions=True)
        for failure in failures:
            log.error("failed", error=str(failure), exc_info=None if _gpu_failure(failure) else failure)
        return failures[0] if failures else None

    async def _drain(self, consumer: Consumer) -> None:
        """Stop intake, let requests finish or hand them back, commit; a second signal cuts that short."""
        notify("STOPPING=1")
        log.info("draining", in_work=consumer.in_work)
        drain = asyncio.create_task(consumer.drain())
        forced = asyncio.create_task(self._forced.wait())
        await asyncio.wait({drain, forced}, return_when=asyncio.FIRST_COMPLETED)
        for task in (drain, forced):
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _report(self, metrics: Metrics, consumer: Consumer, refresh: Any) -> None:
        kafka = self._settings.kafka
        while True:
            await asyncio.sleep(self._settings.metrics.interval_seconds)
            refresh()
            value = metrics.snapshot().model_dump_json().encode()
            try:
                await consumer.publish(Outgoing(kafka.metrics_topic, self._settings.instance.encode(), value))
            except KafkaError as error:
                # Requests may well go on; if they do not, the consumer says so itself.
                log.warning("metrics_not_published", error=str(error) or type(error).__name__)

    async def _keep_alive(self) -> None:
        interval = watchdog_seconds()
        while True:
            await asyncio.sleep(interval / 2 if interval else 3600.0)
            notify("WATCHDOG=1")

    def _order(self, order: EngineOrder) -> None:
        """From a signal or the control topic."""
        if isinstance(order, Reload) and order.instance in (None, self._settings.instance):
            self._reload.set()
        self._orders.give(order)

    def _on_signal(self, number: int, life: asyncio.Task[int]) -> None:
        again = self._stopping.is_set()
        self._stopping.set()
        if self._consumer is not None:
            if again:
                log.warning("forced to stop: what is in work is handed back")
                self._forced.set()
        elif again:
            _end(number)
        else:
            log.info("stopping before serving began; a second signal ends the process at once")
            notify("STOPPING=1")
            life.cancel()


def _end(number: int) -> NoReturn:
    """Without waiting for what is being loaded or connected to: nothing can hurry that."""
    log.warning("forced to stop before serving began")
    end_at_once(128 + number)


async def _within(seconds: float, work: Coroutine[Any, Any, None]) -> None:
    try:
        await asyncio.wait_for(work, seconds)
    except Exception as error:
        log.error("audit_incomplete", error=repr(error))


def _exit_code(failure: BaseException | None) -> int:
    """What systemd and the operator see; the engine wraps the GPU's error in its own."""
    return 0 if failure is None else exit_code(_gpu_failure(failure) or failure)


def _gpu_failure(failure: BaseException) -> GpuFailed | None:
    return next((error for error in (failure, failure.__cause__) if isinstance(error, GpuFailed)), None)
