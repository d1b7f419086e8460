"""One broker and one engine for all fault scenarios."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from daemon.errors import PrerequisiteMissing
from tests.faults.cluster import Cluster
from tests.faults.model import build_engine


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_engine(tmp_path_factory.mktemp("model"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    started = Cluster(tmp_path_factory.mktemp("kafka"))
    try:
        await started.start()
    except PrerequisiteMissing as missing:
        pytest.skip(str(missing))
    yield started
    await started.stop()
