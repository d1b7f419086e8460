"""Requests in, answers out, on a real broker, under both delivery promises."""

import asyncio
import json
from collections import defaultdict
from functools import partial

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import RequestTimedOutError
from aiokafka.protocol.group import HeartbeatRequest

from daemon.errors import InvalidJson
from daemon.kafka.consumer import Consumer
from daemon.kafka.envelope import Envelope
from daemon.kafka.errors import HandlerFailed, TimeoutRefused, TopicMissing
from daemon.kafka.publishing.deadletter import dead_letter
from daemon.kafka.record import Outgoing
from daemon.kafka.replies import error_reply, reply_record
from tests.kafka.traffic import committed, create_topic, echo, opened, put, read, running, settings

BOTH = pytest.mark.parametrize("delivery", ["exactly-once", "at-least-once"])


@BOTH
async def test_every_request_is_answered_once_and_the_offsets_say_so(broker, name, delivery):
    address = broker.bootstrap_servers
    chosen = settings(address, name, delivery=delivery)
    async with running(chosen, echo(chosen)):
        await put(address, f"{name}.requests", [(b"k%d" % (n % 7), b"%d" % n) for n in range(500)])
        replies = await read(address, f"{name}.replies", 500)
    assert sorted(int(reply.value) for reply in replies) == list(range(500))
    assert len({dict(reply.headers)["reply-id"] for reply in replies}) == 500
    marks = await committed(address, name)
    assert sum(offset for offset, _ in marks.values()) == 500
    assert {metadata for _, metadata in marks.values()} == {""}


@BOTH
async def test_order_is_kept_per_key_and_only_there(broker, name, delivery):
    address = broker.bootstrap_servers
    chosen = settings(address, name, delivery=delivery, partitions=1)
    started: list[bytes] = []

    async def handler(record, emit):
        started.append(record.value)
        await asyncio.sleep(0.3 if record.value == b"a0" else 0.0)
        return [reply_record(record, Envelope.of(record), chosen.reply_topic, record.value)]

    requests = [(value[:1], value) for value in (b"a0", b"a1", b"b0", b"a2", b"b1")]
    await create_topic(address, f"{name}.requests")
    await put(address, f"{name}.requests", requests)
    async with running(chosen, handler):
        replies = [reply.value for reply in await read(address, f"{name}.replies", 5)]
    assert started.index(b"b1") < started.index(b"a1")
    assert replies == [b"b0", b"b1", b"a0", b"a1", b"a2"]


async def test_unordered_gives_up_the_order_of_a_key(broker, name):
    address = broker.bootstrap_servers
    chosen = settings(address, name, unordered=True, partitions=1)
    await create_topic(address, f"{name}.requests")
    await put(address, f"{name}.requests", [(b"k", b"%d" % n) for n in range(4)])

    async def handler(record, emit):
        await asyncio.sleep(0.4 if record.value == b"0" else 0.0)
        return [reply_record(record, Envelope.of(record), chosen.reply_topic, record.value)]

    async with running(chosen, handler):
        replies = [reply.value for reply in await read(address, f"{name}.replies", 4)]
    assert replies[-1] == b"0"


@BOTH
async def test_what_is_done_beyond_the_committed_offset_is_not_done_again(broker, name, delivery):
    address = broker.bootstrap_servers
    chosen = settings(address, name, delivery=delivery, partitions=1, drain_grace_seconds=0.0)
    await create_topic(address, f"{name}.requests")
    await put(address, f"{name}.requests", [(None, b"%d" % n) for n in range(20)])
    seen: dict[int, list[tuple[bytes, int]]] = defaultdict(list)
    stuck = {b"3", b"11"}

    def handler(life: int):
        async def handle(record, emit):
            seen[life].append((record.value, record.attempt))
            if life == 1 and record.value in stuck:
                await asyncio.sleep(3600)
            return [reply_record(record, Envelope.of(record), chosen.reply_topic, record.value)]

        return handle

    async with running(chosen, handler(1)):
        await read(address, f"{name}.replies", 18)
    offset, metadata = next(iter((await committed(address, name)).values()))
    assert offset == 3
    assert metadata.startswith("oag1")
    async with running(chosen, handler(2)) as consumer:
        await opened(consumer)
        await put(address, f"{name}.requests", [(None, b"20")])
        replies = await read(address, f"{name}.replies", 21)
    assert sorted(int(reply.value) for reply in replies) == list(range(21))
    assert sorted(seen[2]) == [(b"11", 2), (b"20", 1), (b"3", 2)]
    async with running(chosen, handler(3)) as consumer:
        await opened(consumer)
        await put(address, f"{name}.requests", [(None, b"21")])
        await read(address, f"{name}.replies", 22)
    assert seen[3] == [(b"21", 1)]


@BOTH
async def test_work_is_bounded_and_partitions_pause_and_resume(broker, name, delivery):
    address = broker.bootstrap_servers
    chosen = settings(
        address, name, delivery=delivery, max_in_flight=6, max_in_flight_per_partition=4, partitions=2
    )
    await create_topic(address, f"{name}.requests", 2)
    await put(address, f"{name}.requests", [(None, b"%d" % n) for n in range(400)])
    most: dict[int, int] = defaultdict(int)
    now: dict[int, int] = defaultdict(int)
    paused = 0

    async def handler(record, emit):
        nonlocal paused
        now[record.partition] += 1
        for partition, count in now.items():
            most[partition] = max(most[partition], count)
        most[-1] = max(most[-1], sum(now.values()))
        paused = max(paused, len(consumer._consumer.paused()))
        await asyncio.sleep(0.001)
        now[record.partition] -= 1
        return [reply_record(record, Envelope.of(record), chosen.reply_topic, record.value)]

    async with running(chosen, handler) as consumer:
        replies = await read(address, f"{name}.replies", 400)
        assert consumer.lag() == 0
    assert len(replies) == 400
    assert paused == 2
    assert most[-1] <= 6
    assert max(most[0], most[1]) <= 4


@BOTH
async def test_poison_is_answered_and_kept_and_the_next_request_is_served(broker, name, delivery):
    address = broker.bootstrap_servers
    chosen = settings(address, name, delivery=delivery)

    async def handler(record, emit):
        envelope = Envelope.of(record)
        try:
            json.loads(record.value or b"")
        except ValueError:
            letter = dead_letter(record, chosen.dead_letter_topic, InvalidJson())
            return [error_reply(record, envelope, chosen.reply_topic, InvalidJson()), letter]
        return [reply_record(record, envelope, chosen.reply_topic, record.value)]

    async with running(chosen, handler):
        poison = [(b"k", b"\xff\xfe", [("correlation-id", b"c1"), ("deadline", b"\xff"), ("x", None)])]
        await put(address, f"{name}.requests", [*poison, (b"k", b"{}")])
        replies = await read(address, f"{name}.replies", 2)
        letters = await read(address, f"{name}.dead-letters", 1)
    assert json.loads(replies[0].value)["error"]["code"] == "invalid_json"
    assert json.loads(replies[0].value)["id"] == "c1"
    assert dict(replies[0].headers)["correlation-id"] == b"c1"
    assert replies[1].value == b"{}"
    assert [letter.value for letter in letters] == [b"\xff\xfe"]


@BOTH
@pytest.mark.parametrize("topic", ["nowhere", "not a topic", "requests", "__consumer_offsets"])
async def test_a_reply_topic_that_cannot_be_used_is_refused_without_work(broker, name, delivery, topic):
    address = broker.bootstrap_servers
    chosen = settings(address, name, delivery=delivery)
    wanted = f"{name}.{topic}" if topic in ("nowhere", "requests") else topic
    told: list[tuple[bytes | None, str]] = []

    def hear(record, error):
        told.append((record.value, error.code.value))

    async with running(chosen, echo(chosen), told=hear) as consumer:
        bad = (b"k", b'{"id": "r1"}', [("reply-topic", wanted.encode())])
        await put(address, f"{name}.requests", [bad, (b"k", b"next")])
        replies = await read(address, f"{name}.replies", 2)
        letters = await read(address, f"{name}.dead-letters", 1)
        assert await consumer._topics.find(f"{name}.nowhere") is None
    refused = json.loads(replies[0].value)
    assert (refused["id"], refused["status"]) == ("r1", "rejected")
    assert refused["error"]["code"] == "unknown_reply_topic"
    assert replies[1].value == b"next"
    assert told == [(b'{"id": "r1"}', "unknown_reply_topic")]
    assert dict(letters[0].headers)["kafka_dlt-exception-code"] == b"unknown_reply_topic"


async def test_a_reply_topic_created_while_we_run_is_found(broker, name):
    address = broker.bootstrap_servers
    chosen = settings(address, name)
    async with running(chosen, echo(chosen)):
        await create_topic(address, f"{name}.late", 3)
        await asyncio.sleep(1.0)
        headers = [("kafka_replyTopic", f"{name}.late".encode()), ("kafka_replyPartition", b"\0\0\0\2")]
        await put(address, f"{name}.requests", [(b"k", b"x", headers)])
        replies = await read(address, f"{name}.late", 1)
    assert [(reply.value, reply.partition) for reply in replies] == [(b"x", 2)]


@BOTH
async def test_a_reply_that_is_too_large_becomes_an_error_reply(broker, name, delivery):
    address = broker.bootstrap_servers
    await create_topic(address, f"{name}.replies", 1, **{"max.message.bytes": "5000"})
    chosen = settings(address, name, delivery=delivery)
    async with running(chosen, echo(chosen)):
        await put(address, f"{name}.requests", [(b"k", b"x" * 6000), (b"k", b"y" * 4000)])
        replies = await read(address, f"{name}.replies", 2)
    assert json.loads(replies[0].value)["error"]["code"] == "reply_too_large"
    assert replies[1].value == b"y" * 4000


@BOTH
@pytest.mark.parametrize("key", [b"k", None])
async def test_deltas_arrive_before_the_reply_in_its_partition(broker, name, delivery, key):
    address = broker.bootstrap_servers
    chosen = settings(address, name, delivery=delivery)

    async def handler(record, emit):
        for number in range(20):
            await emit(Outgoing(chosen.reply_topic, record.key, b"delta %d" % number))
        await emit(Outgoing(f"{name}.nowhere", record.key, b"lost"))
        return [reply_record(record, Envelope.of(record), chosen.reply_topic, b"reply")]

    async with running(chosen, handler):
        await put(address, f"{name}.requests", [(key, b"x")])
        records = await read(address, f"{name}.replies", 21)
    assert [record.value for record in records] == [*(b"delta %d" % number for number in range(20)), b"reply"]
    assert len({record.partition for record in records}) == 1


@BOTH
async def test_a_failing_handler_stops_us_loudly_and_its_request_is_answered(broker, name, delivery):
    address = broker.bootstrap_servers
    chosen = settings(address, name, delivery=delivery, partitions=1)

    async def handler(record, emit):
        if record.value == b"bug":
            raise ZeroDivisionError("a bug")
        return [reply_record(record, Envelope.of(record), chosen.reply_topic, record.value)]

    with pytest.raises(HandlerFailed, match=r"requests/0/0: ZeroDivisionError\('a bug'\)"):
        async with running(chosen, handler):
            await put(address, f"{name}.requests", [(b"k", b"bug")])
            await read(address, f"{name}.dead-letters", 1)
    async with running(chosen, handler):
        await put(address, f"{name}.requests", [(b"k", b"fine")])
        replies = await read(address, f"{name}.replies", 2)
    assert json.loads(replies[0].value)["error"]["code"] == "internal"
    assert replies[1].value == b"fine"


async def test_missing_topics_are_named_unless_we_may_create_them(broker, name):
    chosen = settings(broker.bootstrap_servers, name, create_topics=False)
    consumer = Consumer(chosen, echo(chosen))
    with pytest.raises(TopicMissing, match=rf"{name}\.control, {name}\.dead-letters"):
        await consumer.start()


async def test_a_session_timeout_that_the_brokers_refuse_is_named(broker, name):
    chosen = settings(broker.bootstrap_servers, name, session_timeout_seconds=0.4)
    with pytest.raises(TimeoutRefused, match=r"0\.4 s as `kafka\.session_timeout_seconds`.*`group\.min"):
        await Consumer(chosen, echo(chosen)).start()


async def test_foreign_commit_metadata_is_tolerated(broker, name):
    address = broker.bootstrap_servers
    chosen = settings(address, name, partitions=1)
    await create_topic(address, f"{name}.requests")
    await put(address, f"{name}.requests", [(b"k", b"%d" % n) for n in range(5)])
    other = settings(address, name, partitions=1, delivery="at-least-once")
    async with running(other, echo(other)) as consumer:
        await read(address, f"{name}.replies", 5)
        partition = next(iter(consumer._consumer.assignment()))
        await consumer.drain()
        await consumer._consumer.commit({partition: (3, "NO_METADATA from elsewhere ß")})
    async with running(chosen, echo(chosen)):
        replies = await read(address, f"{name}.replies", 7)
    assert [reply.value for reply in replies] == [b"0", b"1", b"2", b"3", b"4", b"3", b"4"]


async def test_nothing_is_taken_in_while_the_group_is_silent_and_nothing_is_lost(broker, name, monkeypatch):
    address = broker.bootstrap_servers
    chosen = settings(address, name, partitions=1)
    handled, silent = [], True

    async def handler(record, emit):
        handled.append(record.value)
        return await echo(chosen)(record, emit)

    async with running(chosen, handler) as consumer:
        await opened(consumer)
        ask = consumer._consumer._coordinator._send_req

        async def cut_off(request):
            if silent and isinstance(request, HeartbeatRequest):
                raise RequestTimedOutError
            return await ask(request)

        monkeypatch.setattr(consumer._consumer._coordinator, "_send_req", cut_off)
        consumer._lease.lose()
        await put(address, f"{name}.requests", [(None, b"%d" % n) for n in range(5)])
        await asyncio.sleep(1.0)
        assert handled == []
        silent = False
        replies = await read(address, f"{name}.replies", 5)
    assert sorted(reply.value for reply in replies) == sorted(handled) == [b"%d" % n for n in range(5)]


@BOTH
@pytest.mark.parametrize("busy", [False, True])
async def test_a_request_topic_made_anew_is_read_from_its_beginning(broker, name, delivery, busy):
    """Nothing is committed of the former one any more: it would count for the new one."""
    address = broker.bootstrap_servers
    chosen = settings(address, name, partitions=1, delivery=delivery, rebalance_grace_seconds=1.0)
    requests = f"{name}.requests"
    await create_topic(address, requests)
    until, answer = asyncio.Event(), echo(chosen)

    async def handler(record, emit):
        if record.value == b"wait":
            await until.wait()
        return await answer(record, emit)

    async with running(chosen, handler) as consumer:
        await opened(consumer)
        await put(address, requests, [(None, b"old")] * 3 + [(None, b"wait")] * busy)
        await read(address, f"{name}.replies", 3)
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        await admin.start()
        await admin.delete_topics([requests])
        await admin.close()
        until.set()
        await opened(consumer, 0)
        await create_topic(address, requests)
        await asyncio.gather(*consumer._assignment._closings)
        await put(address, requests, [(None, b"new %d" % number) for number in range(5)])
        await consumer._consumer._client.force_metadata_update()  # it would take minutes otherwise
        await opened(consumer, 1)
        replies = {reply.value for reply in await read(address, f"{name}.replies", 8)}
    assert replies >= {b"new %d" % number for number in range(5)}


async def test_nothing_lags_behind_the_last_request_of_a_transaction(broker, name):
    address = broker.bootstrap_servers
    chosen = settings(address, name, partitions=1)
    requests = f"{name}.requests"
    await create_topic(address, requests)
    async with running(chosen, echo(chosen)) as consumer:
        await opened(consumer)
        async with AIOKafkaProducer(bootstrap_servers=address, transactional_id=name) as producer:
            for wanted in (True, False):
                await producer.begin_transaction()
                await producer.send_and_wait(requests, b"%d" % wanted)
                await (producer.commit_transaction() if wanted else producer.abort_transaction())
        replies = await read(address, f"{name}.replies", 1)
        assert [reply.value for reply in replies] == [b"1"]
        highwater = partial(consumer._consumer.highwater, TopicPartition(requests, 0))
        async with asyncio.timeout(10.0):
            while highwater() != 4 or consumer.lag():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
