import aiohttp
import pytest

from daemon.errors import ConfigurationError
from daemon.ops.health import HealthServer
from daemon.ops.metrics import Metrics


def server(metrics, problem=lambda: None, port=0, refresh=lambda: None):
    return HealthServer("127.0.0.1", port, metrics.registry, lambda: None, problem, refresh)


async def get(port, path):
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.text()


async def test_metrics_are_refreshed_when_read():
    metrics = Metrics("host/1")
    door = server(metrics, refresh=lambda: metrics.lag.set(7))
    port = await door.start()
    try:
        status, text = await get(port, "/metrics")
        assert status == 200
        assert "autoglm_lag_records 7.0" in text
    finally:
        await door.stop()


async def test_ready_says_what_is_not():
    door = server(Metrics("host/1"), lambda: "no partitions assigned yet")
    port = await door.start()
    try:
        assert await get(port, "/livez") == (200, "ok\n")
        assert await get(port, "/readyz") == (503, "no partitions assigned yet\n")
    finally:
        await door.stop()


async def test_a_taken_port_is_named_with_the_remedy():
    first, metrics = server(Metrics("host/1")), Metrics("host/2")
    port = await first.start()
    try:
        with pytest.raises(ConfigurationError, match=rf"{port}.*metrics\.port"):
            await server(metrics, port=port).start()
    finally:
        await first.stop()


async def test_an_address_of_another_host_is_refused_by_the_settings_name():
    metrics = Metrics("host/1")
    door = HealthServer("192.0.2.1", 0, metrics.registry, lambda: None, lambda: None, lambda: None)
    with pytest.raises(ConfigurationError, match=r"192\.0\.2\.1:0 .*; set `metrics\.host`"):
        await door.start()
