"""Work under a token ends when that is set, and the task goes on as if it had never been cancelled."""

import asyncio

import pytest

from daemon.cancel_token import CancelToken
from daemon.errors import Cancelled


async def test_it_ends_what_is_awaited_and_leaves_the_task_alone():
    token, ended = CancelToken(), []

    async def work():
        try:
            await asyncio.sleep(30)
        finally:
            ended.append("work")

    asyncio.get_running_loop().call_soon(token.set)
    with pytest.raises(Cancelled), token.interrupting():
        await work()
    assert ended == ["work"]
    assert asyncio.current_task().cancelling() == 0
    await asyncio.sleep(0)  # no cancellation is left over


async def test_work_that_will_not_end_at_once_is_waited_for():
    token, done = CancelToken(), []

    async def stubborn():
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            done.append(True)

    asyncio.get_running_loop().call_soon(token.set)
    with pytest.raises(Cancelled), token.interrupting():
        await stubborn()
    assert done == [True]
    await asyncio.sleep(0)


async def test_what_is_set_already_begins_nothing():
    token = CancelToken()
    token.set()
    with pytest.raises(Cancelled), token.interrupting():
        pytest.fail("begun")


async def test_what_ends_in_time_is_not_touched():
    token = CancelToken()
    with token.interrupting():
        await asyncio.sleep(0)
    token.set()
    await asyncio.sleep(0)
    with pytest.raises(KeyError), CancelToken().interrupting():
        raise KeyError


async def test_it_reaches_all_who_work_and_may_be_set_twice():
    token = CancelToken()

    async def under_it():
        with token.interrupting():
            await asyncio.sleep(30)

    tasks = [asyncio.create_task(under_it()) for _ in range(3)]
    await asyncio.sleep(0)
    token.set()
    token.set()
    assert [type(error) for error in await asyncio.gather(*tasks, return_exceptions=True)] == [Cancelled] * 3


@pytest.mark.parametrize("also_set", [False, True])
async def test_a_cancelled_task_stays_cancelled(also_set):
    token = CancelToken()

    async def under_it():
        with token.interrupting():
            await asyncio.sleep(30)

    task = asyncio.create_task(under_it())
    await asyncio.sleep(0)
    if also_set:
        token.set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_one_within_another():
    outer, inner = CancelToken(), CancelToken()
    between = asyncio.Event()

    async def both():
        with outer.interrupting():
            try:
                with inner.interrupting():
                    await asyncio.sleep(30)
            except Cancelled:
                between.set()
                await asyncio.sleep(30)

    task = asyncio.create_task(both())
    await asyncio.sleep(0)
    inner.set()
    await between.wait()
    assert not task.done()
    outer.set()
    with pytest.raises(Cancelled):
        await task
