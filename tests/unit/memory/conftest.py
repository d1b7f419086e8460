import pytest

from daemon.memory.local import LocalStore
from daemon.memory.place import Place
from daemon.memory.redis import RedisStore
from tests.servers import RedisServer


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["local", "redis"])
async def store(request):
    if request.param == "local":
        opened = LocalStore(100, 100_000, 60.0)
    else:
        opened = RedisStore(request.getfixturevalue("redis_server").url, 60.0)
    yield opened
    await opened.close()


@pytest.fixture
def place(request):
    """place(offset, …) in a conversation of the test's own."""

    def place_(offset=0, *, name="", partition=0, attempt=1):
        return Place(f"{request.node.name}/{name}", "topic", partition, offset, attempt)

    return place_
