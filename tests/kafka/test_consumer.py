"""Requests in, answers out, on a real broker, under both delivery promises."""

import pytest

from tests.kafka.traffic import committed, echo, put, read, running, settings

BOTH = pytest.mark.parametrize("delivery", ["exactly-once", "at-least-once"])


@BOTH
async def test_every_request_is_answered_once_and_the_offsets_say_so(broker, name, delivery):
    chosen = settings(broker.bootstrap_servers, name, delivery=delivery)
    async with running(chosen, echo(chosen)):
        await put(
            broker.bootstrap_servers, f"{name}.requests", [(b"k%d" % (n % 7), b"%d" % n) for n in range(300)]
        )
        replies = await read(broker.bootstrap_servers, f"{name}.replies", 300)
    assert sorted(int(reply.value) for reply in replies) == list(range(300))
    marks = await committed(broker.bootstrap_servers, name)
    assert sum(offset for offset, _ in marks.values()) == 300
    assert {metadata for _, metadata in marks.values()} == {""}
