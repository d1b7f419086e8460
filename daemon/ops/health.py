"""The daemon's HTTP side door: /metrics for Prometheus, /livez and /readyz for whoever restarts or routes."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from daemon.errors import ConfigurationError


class HealthServer:
    """`alive` and `ready` return None when all is well, else the sentence that says what is not."""

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        alive: Callable[[], str | None],
        ready: Callable[[], str | None],
        refresh: Callable[[], None],
    ) -> None:
        self._host, self._port = host, port
        self._registry, self._refresh = registry, refresh
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/livez", self._answer(alive))
        app.router.add_get("/readyz", self._answer(ready))
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> int:
        """Listen and return the port. Raises ConfigurationError when it is taken."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigurationError(
                f"cannot listen on {self._host}:{self._port} ({error.strerror}); set `metrics.host` to an "
                "address of this host and `metrics.port` to a free port, or to 0 to have one chosen."
            ) from error
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _metrics(self, _: web.Request) -> web.Response:
        self._refresh()
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
        )

    @staticmethod
    def _answer(check: Callable[[], str | None]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(_: web.Request) -> web.Response:
            problem = check()
            return web.Response(text=(problem or "ok") + "\n", status=503 if problem else 200)

        return answer
