"""Slots are given by rank, then in order, and none is lost."""

import asyncio
import math

from hypothesis import given
from hypothesis import strategies as st

from daemon.kafka.intake.slots import Slots


async def settled():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_highest_rank_is_next_then_who_came_first():
    slots, served = Slots(1), []
    await slots.acquire()

    async def wait(name, rank):
        await slots.acquire(lambda: rank)
        served.append(name)

    names = (("a", 0), ("b", 9), ("c", 0), ("d", 9))
    tasks = [asyncio.create_task(wait(name, rank)) for name, rank in names]
    for _ in names:
        await settled()
        slots.release()
    await asyncio.gather(*tasks)
    assert served == ["b", "d", "a", "c"]


async def test_a_rank_is_asked_when_the_slot_is_free():
    slots, served, ranks = Slots(1), [], {"a": 5.0, "b": 1.0}
    await slots.acquire()

    async def wait(name):
        await slots.acquire(lambda: ranks[name])
        served.append(name)

    tasks = [asyncio.create_task(wait(name)) for name in ranks]
    await settled()
    ranks["a"] = -math.inf  # what it wanted the slot for has been called off
    for _ in ranks:
        slots.release()
        await settled()
    await asyncio.gather(*tasks)
    assert served == ["b", "a"]


async def test_alone_goes_before_every_rank_and_has_all():
    slots, order = Slots(3), []
    for _ in range(3):
        await slots.acquire()

    async def alone():
        await slots.acquire(alone=True)
        order.append("alone")

    async def other():
        await slots.acquire(lambda: 100.0)
        order.append("other")

    tasks = [asyncio.create_task(other()), asyncio.create_task(alone())]
    await settled()
    for _ in range(3):
        slots.release()
        await settled()
    assert order == ["alone"]
    slots.release(alone=True)
    await asyncio.gather(*tasks)
    assert order == ["alone", "other"]


@given(
    count=st.integers(1, 3),
    steps=st.lists(
        st.tuples(st.sampled_from(["acquire", "alone", "cancel", "release"]), st.integers(0, 9)), max_size=40
    ),
)
def test_whatever_happens_as_many_are_free_at_the_end(count, steps):
    async def run():
        slots = Slots(count)
        holding, waiting = [], []

        def sort():
            for task, alone in list(waiting):
                if task.done():
                    waiting.remove((task, alone))
                    if not task.cancelled():
                        holding.append(alone)

        for step, number in steps:
            if step in ("acquire", "alone"):
                alone = step == "alone"
                task = asyncio.create_task(slots.acquire(lambda number=number: number, alone=alone))
                waiting.append((task, alone))
            elif step == "cancel" and waiting:
                waiting[number % len(waiting)][0].cancel()
            elif step == "release" and holding:
                slots.release(alone=holding.pop(number % len(holding)))
            if number % 2:
                await settled()
            sort()
            assert sum(count if alone else 1 for alone in holding) <= count
        while waiting or holding:
            await settled()
            sort()
            for _ in range(len(holding)):
                slots.release(alone=holding.pop())
        async with asyncio.timeout(1):
            await slots.acquire(alone=True)

    asyncio.run(run())
