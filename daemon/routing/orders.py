"""Changes of the engines while the daemon runs: reloads and control records, one after the other."""

import asyncio
from collections.abc import Callable

import structlog

from daemon.routing.fleet import Fleet
from daemon.routing.wanted import Wanted, wanted_by
from daemon.settings import EngineSettings, Settings
from schemas.control import EngineOrder, LoadEngine, Reload, RetireEngine
from schemas.errors import AutoGLMError

log = structlog.get_logger(__name__)


class Orders:
    """`read` gives the settings as they are now; what an order changed lasts until the next reload."""

    def __init__(self, fleet: Fleet, read: Callable[[], Settings], instance: str) -> None:
        self._fleet, self._read, self._instance = fleet, read, instance
        self._given: asyncio.Queue[EngineOrder] = asyncio.Queue()

    def give(self, order: EngineOrder) -> None:
        """To be carried out soon, unless it is meant for another daemon."""
        if order.instance in (None, self._instance):
            self._given.put_nowait(order)

    async def run(self) -> None:
        """Carries out orders. One that fails changes nothing and is logged with its reason."""
        while True:
            order = await self._given.get()
            try:
                await self._obey(order)
            except AutoGLMError as error:
                log.error("engines_unchanged", order=order.type, error=str(error))
            except Exception as error:  # whatever a runtime says of a graph that it cannot open
                log.error("engines_unchanged", order=order.type, error=repr(error), exc_info=error)

    async def _obey(self, order: EngineOrder) -> None:
        fleet = self._fleet
        match order:
            case Reload():
                await fleet.become(*await asyncio.to_thread(lambda: wanted_by(self._read())))
            case RetireEngine():
                await fleet.retire(order.name)
            case LoadEngine():
                settings = EngineSettings.model_validate(
                    order.model_dump(exclude={"type", "instance", "name"}, exclude_none=True)
                )
                one = await asyncio.to_thread(Wanted.of, order.name, settings)
                await fleet.become({**fleet.wanted, order.name: one})
