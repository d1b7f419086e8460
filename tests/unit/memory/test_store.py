"""Where conversations are kept: in the process, and in a real server of the Redis protocol."""

import asyncio
import time

import pytest

from daemon.errors import ConfigurationError
from daemon.kafka.record import Incoming
from daemon.memory.errors import MemoryUnavailable
from daemon.memory.local import LocalStore
from daemon.memory.place import Place
from daemon.memory.redis import RedisStore
from daemon.memory.settings import MemorySettings


async def test_what_was_written_is_read(store, place):
    assert await store.read(place()) is None
    await store.update(place(), lambda value: (value or b"") + b"a")
    await store.update(place(), lambda value: (value or b"") + b"b")
    assert await store.read(place()) == b"ab"
    assert await store.read(place(name="other")) is None
    await store.update(place(), lambda value: b"")
    assert await store.read(place()) is None


async def test_updates_at_the_same_time_are_all_there(store, place):
    await asyncio.gather(*(store.update(place(), lambda value: (value or b"") + b"x") for _ in range(30)))
    assert await store.read(place()) == b"x" * 30


async def test_two_daemons_share_what_is_in_redis(redis_server, place):
    one, other = RedisStore(redis_server.url, 60), RedisStore(redis_server.url + "?decode_responses=true", 60)
    await one.update(place(), lambda value: "你好".encode())
    one.forget("topic", 0)  # a rebalance takes nothing away here
    await other.update(place(), lambda value: value + b"!")
    assert await one.read(place()) == "你好!".encode()
    await one.close()
    await other.close()


@pytest.mark.parametrize("kind", ["local", "redis"])
async def test_silence_ends_a_conversation(kind, redis_server, place):
    store = LocalStore(10, 10_000, 1.0) if kind == "local" else RedisStore(redis_server.url, 1.0)
    await store.update(place(), lambda value: b"a")
    assert await store.read(place()) == b"a"
    await asyncio.sleep(1.1)
    assert await store.read(place()) is None
    await store.close()


async def test_the_process_keeps_no_more_than_it_may(place):
    store = LocalStore(3, 10_000, 60)
    for name in "abc":
        await store.update(place(name=name), lambda value: b"1")
    await store.read(place(name="a"))
    await store.update(place(name="d"), lambda value: b"1")
    assert [await store.read(place(name=name)) for name in "abcd"] == [b"1", None, b"1", b"1"]
    await store.update(place(name="e"), lambda value: b"x" * 9_000)
    assert store.conversations == 1 and store.bytes <= 10_000
    await store.update(place(name="f"), lambda value: b"x" * 20_000)
    assert (store.conversations, store.bytes) == (0, 0)


async def test_a_partition_that_others_had_is_forgotten(place):
    store = LocalStore(10, 10_000, 60)
    await store.update(place(name="a"), lambda value: b"1")
    await store.update(place(name="b", partition=1), lambda value: b"1")
    store.forget("topic", 0)
    store.forget("other", 1)
    assert [await store.read(place(name=name)) for name in "ab"] == [None, b"1"]


async def test_a_server_that_is_gone_is_told_soon_and_found_again(redis_server, place):
    store = RedisStore(redis_server.url, 60)
    await store.update(place(), lambda value: b"a")
    redis_server.stop()
    try:
        began = time.monotonic()
        with pytest.raises(MemoryUnavailable, match=r"memory\.url"):
            await store.read(place())
        with pytest.raises(MemoryUnavailable):
            await store.update(place(), lambda value: b"b")
        assert time.monotonic() - began < 8
    finally:
        redis_server.start()
    await store.update(place(), lambda value: b"c")
    assert await store.read(place()) == b"c"
    await store.close()


def test_what_is_no_url_is_told_without_its_password():
    with pytest.raises(ConfigurationError, match="redis://HOST") as told:
        MemorySettings(url="http://user:hunter2@host").open()
    assert "hunter2" not in str(told.value)
    assert "hunter2" not in repr(MemorySettings(url="redis://:hunter2@host"))


def record(key=b"k", topic="t", partition=0, offset=0):
    return Incoming(topic, partition, offset, key, None, (), 0)


def test_nobody_else_is_in_the_same_conversation():
    def conversation(group="g", tenant=None, user=None, **of):
        return Place.of(record(**of), group, tenant, user).conversation

    same = conversation()
    assert conversation(offset=7, partition=3) == same
    others = [
        conversation(group="h"),
        conversation(tenant="a"),
        conversation(user="a"),
        conversation(key=b"l"),
        conversation(topic="u"),
        conversation(tenant=""),
    ]
    assert len({same, *others}) == 7
    assert Place.of(record(key=None), "g", None, None) is None
    assert Place.of(record(key=b"\xff"), "g", None, None) is not None
