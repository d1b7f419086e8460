"""What is remembered when daemons are killed and partitions move."""

import asyncio
import json

from daemon.demo.process import DaemonProcess
from daemon.kafka.record import Incoming
from daemon.memory.exchange import load
from daemon.memory.place import Place
from daemon.memory.redis import RedisStore
from tests.kafka.test_daemon import environment
from tests.kafka.traffic import create_topic, echo, opened, put, read, running, settings
from tests.servers import RedisServer

REQUESTS = 12


async def replies(kafka, count):
    """The committed replies by request id, once there are `count`."""
    for _ in range(120):
        records = await read(kafka.bootstrap_servers, kafka.reply_topic, 1)
        found = [json.loads(record.value) for record in records]
        if len(found) >= count:
            assert len({reply["id"] for reply in found}) == len(found)
            return {reply["id"]: reply for reply in found}
        await asyncio.sleep(0.25)
    raise AssertionError(f"{len(found)} of {count} replies came")


async def test_a_partition_that_moves_is_forgotten_and_one_that_stays_is_not(broker, name):
    chosen, begun = settings(broker.bootstrap_servers, name), []
    await create_topic(chosen.bootstrap_servers, chosen.request_topics[0], 2)

    def begins(topic, partition):
        begun.append((topic, partition))

    async with running(chosen, echo(chosen), on_begin=begins) as one:
        await opened(one, 2)
        assert sorted(begun) == [(chosen.request_topics[0], partition) for partition in (0, 1)]
        begun.clear()
        async with running(chosen, echo(chosen)) as other:
            await opened(other, 1)
            await opened(one, 1)
        assert begun == []
        await opened(one, 2)
        assert len(begun) == 1


async def test_a_killed_daemon_leaves_every_turn_once_in_redis(broker, name, tmp_path):
    kafka = settings(broker.bootstrap_servers, name)
    (topic,) = kafka.request_topics
    for one in (topic, kafka.reply_topic):
        await create_topic(kafka.bootstrap_servers, one)
    redis = RedisServer(tmp_path)
    redis.start()
    try:
        variables = environment(kafka, tmp_path, AUTOGLM_MEMORY__URL=redis.url, AUTOGLM_MEMORY__TURNS="16")
        with DaemonProcess(variables) as daemon:
            wanted = {"tools": [], "memory": True, "max_tokens": 24}
            await put(
                kafka.bootstrap_servers,
                topic,
                [
                    (b"k", json.dumps({"id": str(i), "query": f"hello {i}", **wanted}).encode())
                    for i in range(REQUESTS)
                ],
            )
            await replies(kafka, 3)
            daemon.kill()
        with DaemonProcess(variables):
            answered = await replies(kafka, REQUESTS)
        assert {reply["status"] for reply in answered.values()} == {"ok"}
        store = RedisStore(redis.url, 60)
        place = Place.of(Incoming(topic, 0, REQUESTS, b"k", None, (), 0), kafka.group_id, None, None)
        remembered = load(await store.read(place))
        await store.close()
    finally:
        redis.stop()
    assert [exchange.offset for exchange in remembered] == list(range(REQUESTS))
    for number, exchange in enumerate(remembered):
        asked, said = exchange.messages
        assert asked["content"] == f"hello {number}"
        assert said["content"] == answered[str(number)]["message"]["content"]
    sizes = [answered[str(number)]["usage"]["prompt_tokens"] for number in range(REQUESTS)]
    assert sizes == sorted(set(sizes))  # each saw all that came before it
