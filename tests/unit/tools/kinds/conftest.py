import asyncio
from pathlib import Path

import pytest

from daemon.tools.context import ToolContext
from daemon.tools.declarations import parse
from daemon.tools.executor import Executor
from daemon.tools.kinds.credentials import Credentials


@pytest.fixture
def credentials(tmp_path):
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "token").write_text("s3{cr}et\n")
    return Credentials(folder)


@pytest.fixture
async def declare(credentials):
    """declare(table) → its one tool, closed at the end."""
    opened = []

    def declare_(**table):
        opened.append(
            parse(Path("t.toml"), "t", {"description": "d", **table}).open("t", "here", credentials)
        )
        return opened[-1].tools[0]

    yield declare_
    for one in opened:
        await one.close()


@pytest.fixture
async def call(declare):
    """call(tool, **arguments) → the Execution. What calls have left behind has ended when the test has."""
    executors = []

    async def call_(tool, arguments=None, **context):
        executors.append(Executor())
        return await executors[-1].run(tool, arguments or {}, ToolContext(**context))

    yield call_
    left = [task for executor in executors for task in executor._abandoned]
    await asyncio.gather(*left, return_exceptions=True)
