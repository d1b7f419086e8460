"""The loaded engines, and how they change while requests run."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from daemon import heap
from daemon.errors import ConfigurationError
from daemon.ops.metrics import ReplicaState
from daemon.routing.route import Route, problems
from daemon.routing.router import Router
from daemon.routing.wanted import Wanted
from daemon.threads import in_thread
from engines.errors import EngineFailed
from engines.serve.engine import Engine
from engines.serve.pool.pool import Pool
from engines.serve.pool.replica import Replica
from engines.serve.pool.shares import Place, shares
from engines.serve.stats import EngineStats

log = structlog.get_logger(__name__)

_LOADING_SECONDS = 30.0  # that the end of the process waits for a load


class Fleet:
    """`become` what is wanted, `watch` for failures, `close`."""

    def __init__(self) -> None:
        self.router = Router(Pool())
        self._wanted: dict[str, Wanted] = {}
        self._retiring: dict[Replica, str] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._loading: set[asyncio.Task[Replica]] = set()
        self._failed: asyncio.Queue[tuple[str, Replica, BaseException]] = asyncio.Queue()
        self._lock = asyncio.Lock()
        self._ending = False

    @property
    def wanted(self) -> dict[str, Wanted]:
        return dict(self._wanted)

    async def become(self, wanted: Mapping[str, Wanted], routes: Sequence[Route] | None = None) -> None:
        """Load and warm what is new, changed or has failed, then switch all at once; what is not wanted any
        more finishes its requests and gives its memory back. `routes` None: as they are.

        All or nothing: raises what a load raises, or ConfigurationError, with everything as it was.
        """
        async with self._lock:
            pool, router = self.router.pool, self.router
            places = [place for one in wanted.values() for place in one.places]
            share = shares(places)
            fresh: dict[str, list[Replica]] = {}
            if routes is not None and (wrong := problems(routes, wanted)):
                raise ConfigurationError("\n".join(wrong))
            try:
                for name, one in wanted.items():
                    if self._wanted.get(name) == one and all(r.alive for r in self._serving(name)):
                        continue
                    fresh[name] = []
                    for place, part in zip(places, share, strict=True):
                        if place.engine == name:
                            fresh[name].append(await self._load(self._open(one, place, part)))
                if dead := [name for name, ready in fresh.items() if not all(one.alive for one in ready)]:
                    raise EngineFailed(f"{', '.join(dead)} failed before it was in service; see the log")
            except BaseException:
                for replica in (replica for replicas in fresh.values() for replica in replicas):
                    self._close(replica)
                raise
            gone = [name for name in pool.names if name not in wanted]
            before = {name: pool.put(name, replicas) for name, replicas in fresh.items()}
            before |= {name: pool.drop(name) for name in gone}
            self._wanted = dict(wanted)
            router.routes = router.routes if routes is None else tuple(routes)
            for name, replicas in before.items():
                for replica in replicas:
                    self._retiring[replica] = name
                    replica.retire(self._release)
            if fresh or gone:
                log.info("engines", serving=pool.names, loaded=list(fresh), retired=gone)

    async def retire(self, name: str) -> None:
        """Take an engine out of service, whatever the settings say. Raises ConfigurationError when there is
        none of that name, or when nobody else would answer its requests."""
        if name not in self._wanted:
            raise ConfigurationError(f"there is no engine {name!r}; there are: {', '.join(self._wanted)}.")
        pool = self.router.pool
        for route in self.router.routes:
            if name in route.engines and not any(pool.alive(one) for one in route.engines if one != name):
                raise ConfigurationError(
                    f"the engine {name!r} is the only one of a route; give the route a `fallback` or "
                    "another `engine` first."
                )
        await self.become({key: one for key, one in self._wanted.items() if key != name})

    async def watch(self) -> None:
        """Raises the EngineFailed of the first failure that the others cannot make up for."""
        while True:
            name, replica, error = await self._failed.get()
            in_service = replica.retiring or replica in self._serving(name)
            if in_service and self.router.fatal(name, error):
                raise error
            log.error("engine_failed", engine=name, error=str(error), remedy="SIGHUP loads it anew")

    def problem(self) -> str | None:
        """What is not as the settings want it, as a sentence."""
        names = self.router.pool.names
        failed = [name for name in names if not all(one.alive for one in self._serving(name))]
        return f"failed, in whole or in part: {', '.join(failed)}; SIGHUP loads it anew" if failed else None

    def fatal(self) -> str | None:
        """Which engine's failure is about to end the process, as a sentence."""
        router = self.router
        lost = [name for name in router.pool.names if not router.pool.alive(name) and router.stranded(name)]
        return f"the engine {lost[0]} has failed" if lost else None

    def stats(self) -> list[tuple[str, ReplicaState, EngineStats]]:
        """Of every replica by name, also of those that only finish their requests."""
        replicas = [(name, one) for name in self.router.pool.names for one in self._serving(name)]
        replicas += [(name, replica) for replica, name in self._retiring.items()]
        return [
            (
                name,
                "failed" if not replica.alive else "retiring" if replica.retiring else "serving",
                replica.engine.stats(),
            )
            for name, replica in replicas
        ]

    async def close(self) -> None:
        """No request may run any more. What is being loaded is waited for a while: nothing can stop that."""
        self._ending = True
        pool = self.router.pool
        if self._loading:
            await asyncio.wait(self._loading, timeout=_LOADING_SECONDS)
        for task in self._loading:
            if task.done() and task.exception() is None:
                self._close(task.result())
        for name in pool.names:
            for replica in pool.drop(name):
                self._close(replica)
        await asyncio.gather(*self._closing)

    def _serving(self, name: str) -> list[Replica]:
        pool = self.router.pool
        return pool.replicas(name) if name in pool.names else []

    async def _load(self, opening: Coroutine[Any, Any, Replica]) -> Replica:
        task = asyncio.create_task(opening)
        self._loading.add(task)
        try:
            return await asyncio.shield(task)
        finally:
            if task.done():
                self._loading.discard(task)

    async def _open(self, one: Wanted, place: Place, share: float | None) -> Replica:
        wanted = one.settings
        load: Callable[[], Engine] = partial(
            Engine.load,
            one.folder,
            slots=wanted.slots,
            capacity=wanted.capacity,
            memory=share,
            device=place.device if one.on_gpu else None,
            threads=wanted.threads,
        )
        engine: Engine = await in_thread(load, f"load-{one.name}")
        engine.start()
        replica, loop = Replica(engine), asyncio.get_running_loop()

        def ended(future: object) -> None:
            error = engine.failed.exception()
            if error is not None and not loop.is_closed():
                loop.call_soon_threadsafe(self._failed.put_nowait, (one.name, replica, error))

        engine.failed.add_done_callback(ended)
        return replica

    def _release(self, replica: Replica) -> None:
        self._retiring.pop(replica, None)
        self._close(replica)

    def _close(self, replica: Replica) -> None:
        self.router.forget(replica)
        heap.unsettle()
        task = asyncio.ensure_future(asyncio.to_thread(replica.engine.close))
        self._closing.add(task)
        task.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        if not self._closing and not self._ending:
            heap.settle()
