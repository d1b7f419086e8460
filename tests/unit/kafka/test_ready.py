"""How long finished replies wait for others."""

import asyncio

from daemon.kafka.lanes.ready import Ready
from daemon.kafka.lanes.room import Answered
from daemon.kafka.settings import KafkaSettings


def ready(**settings: float) -> Ready:
    return Ready(KafkaSettings(**{"commit_interval_seconds": 0.0, **settings}))


async def test_the_quickest_request_decides_when():
    some = ready(commit_patience=0.5, commit_max_interval_seconds=5.0)
    some.add(Answered(1, []), 4.0)
    due = asyncio.create_task(some.due())
    await asyncio.sleep(0.03)
    assert not due.done()
    some.add(Answered(0, []), 0.02)
    await asyncio.wait_for(due, 1.0)
    assert [answered.offset for answered in some.take()] == [1, 0]


async def test_nobody_waits_longer_than_the_bound():
    some = ready(commit_patience=1.0, commit_max_interval_seconds=0.01)
    some.add(Answered(0, []), 3600.0)
    await asyncio.wait_for(some.due(), 1.0)


async def test_a_hurry_is_over_when_what_waited_is_taken():
    some = ready(commit_patience=1.0, commit_max_interval_seconds=5.0)
    some.add(Answered(0, []), 3600.0)
    some.hurry()
    await asyncio.wait_for(some.due(), 1.0)
    assert len(some.take()) == 1
    some.add(Answered(1, []), 3600.0)
    due = asyncio.create_task(some.due())
    await asyncio.sleep(0.03)
    assert not due.done()
    due.cancel()


async def test_what_does_not_fit_is_due_at_once():
    some = ready(commit_patience=1.0, commit_max_records=2)
    for offset in range(3):
        some.add(Answered(offset, []), 3600.0)
    assert some.full
    assert [answered.offset for answered in some.take()] == [0, 1]
    await asyncio.wait_for(some.due(), 0.2)
    assert [answered.offset for answered in some.take()] == [2]


async def test_those_of_whom_one_was_refused_go_one_by_one():
    some = Ready(KafkaSettings(), singly=2)
    for offset in range(4):
        some.add(Answered(offset, []), 3600.0)
    taken = [[answered.offset for answered in some.take()] for _ in range(3)]
    assert taken == [[0], [1], [2, 3]]
