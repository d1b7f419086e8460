"""Cancels, duplicates, retries, dead letters and records that end the process, on a real broker."""

import asyncio
import contextlib
import json
import signal
import sys
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from structlog.testing import capture_logs
from typer.testing import CliRunner

from daemon.errors import Cancelled, InvalidJson
from daemon.kafka.envelope import Envelope
from daemon.kafka.errors import LaneFenced
from daemon.kafka.lanes import assignment
from daemon.kafka.publishing.deadletter import dead_letter
from daemon.kafka.publishing.exactly_once import TransactionalLane
from daemon.kafka.reader import Reader
from daemon.kafka.record import Postponed
from daemon.kafka.replies import error_reply, reply_record
from tests.kafka.traffic import create_topic, forbid_writing, opened, put, read, running, settings

ROOT = Path(__file__).parents[2]


def answering(chosen, worked=None, until=None):
    """Says `ok`, or `cancelled`; waits for `until` or a cancel if the request says `wait`."""

    async def handler(record, emit):
        value = json.loads(record.value)
        if worked is not None:
            worked.append(value["id"])
        if value.get("wait"):
            with contextlib.suppress(Cancelled), record.cancelled.interrupting():
                await until.wait()
        status = "cancelled" if record.cancelled.is_set() else "ok"
        body = json.dumps({"id": value["id"], "status": status, "by": record.offset}).encode()
        envelope = Envelope.of(record)
        return [reply_record(record, envelope, envelope.reply_topic or chosen.reply_topic, body)]

    return handler


def request(id_: str, key: bytes = b"k", **more):
    return key, json.dumps({"id": id_, **more}).encode()


def environment(chosen):
    names = ("bootstrap_servers", "reply_topic", "dead_letter_topic", "control_topic")
    return {f"AUTOGLM_KAFKA__{name.upper()}": getattr(chosen, name) for name in names}


async def autoglm(chosen, *arguments):
    """The command in this process, in a thread, since it runs an event loop of its own."""
    from daemon.cli import app

    return await asyncio.to_thread(CliRunner().invoke, app, arguments, env=environment(chosen))


async def test_a_cancel_reaches_a_request_in_work_one_behind_it_and_one_that_comes_later(broker, name):
    address = broker.bootstrap_servers
    chosen = settings(address, name, partitions=1)
    until = asyncio.Event()
    async with running(chosen, answering(chosen, until=until)):
        await put(address, f"{name}.requests", [request("a", wait=True), request("b"), request("c")])
        await asyncio.sleep(0.5)
        for arguments in (("b",), ("a", "--key", "other"), ("late",)):
            result = await autoglm(chosen, "cancel", *arguments)
            assert result.exit_code == 0, result.output
        await put(address, f"{name}.control", [(None, b"not json"), (None, b'{"type": "cancel"}')])
        early = await read(address, f"{name}.replies", 1)
        assert [json.loads(one.value)["id"] for one in early] == ["b"]
        await autoglm(chosen, "cancel", "a", "--key", "k")
        await read(address, f"{name}.replies", 3)
        await put(address, f"{name}.requests", [request("late"), request("d")])
        replies = [json.loads(one.value) for one in await read(address, f"{name}.replies", 5)]
    statuses = {reply["id"]: reply["status"] for reply in replies}
    assert len(replies) == 5
    assert statuses == {"a": "cancelled", "b": "cancelled", "c": "ok", "late": "cancelled", "d": "ok"}


async def test_a_cancel_means_the_requests_of_all_partitions(broker, name):
    address = broker.bootstrap_servers
    chosen = settings(address, name, partitions=4)
    until, worked = asyncio.Event(), []
    async with running(chosen, answering(chosen, worked, until)) as consumer:
        await opened(consumer, 4)
        await put(address, f"{name}.requests", [request("a", b"%d" % key, wait=True) for key in range(16)])
        while len(worked) < 16:  # noqa: ASYNC110  the test's timeout bounds it
            await asyncio.sleep(0.02)
        await autoglm(chosen, "cancel", "a")
        replies = await read(address, f"{name}.replies", 16, seconds=10.0)
    assert [json.loads(one.value)["status"] for one in replies] == ["cancelled"] * 16


async def test_a_daemon_that_starts_hears_the_cancels_of_before(broker, name):
    """Of requests that were there then; not orders, and not what is older than a cancel is kept."""
    address = broker.bootstrap_servers
    chosen = settings(address, name, partitions=1)
    until, orders = asyncio.Event(), []
    until.set()
    for topic in ("requests", "control"):
        await create_topic(address, f"{name}.{topic}")
    await put(address, f"{name}.requests", [request("a"), request("b"), request("c")])
    old = int((time.time() - chosen.cancel_keep_seconds - 5) * 1000)
    async with AIOKafkaProducer(bootstrap_servers=address) as producer:
        await producer.send(f"{name}.control", b'{"type": "cancel", "id": "b"}', timestamp_ms=old)
    await put(address, f"{name}.control", [(None, b'{"type": "reload"}')])
    await autoglm(chosen, "cancel", "a")
    await autoglm(chosen, "cancel", "later")
    await put(address, f"{name}.requests", [request("later")])
    async with running(chosen, answering(chosen, until=until), on_order=orders.append):
        replies = [json.loads(one.value) for one in await read(address, f"{name}.replies", 4)]
        statuses = {reply["id"]: reply["status"] for reply in replies}
        assert statuses == {"a": "cancelled", "b": "ok", "c": "ok", "later": "ok"}
        assert not orders
        await put(address, f"{name}.control", [(None, b'{"type": "reload"}')])
        while not orders:  # noqa: ASYNC110  the test's timeout bounds it
            await asyncio.sleep(0.02)


async def test_a_duplicate_gets_the_first_reply_also_from_the_partitions_next_owner(broker, name):
    address = broker.bootstrap_servers
    chosen = settings(address, name, partitions=1)
    worked: list[str] = []
    headers = [("correlation-id", b"second")]
    async with running(chosen, answering(chosen, worked)):
        await put(address, f"{name}.requests", [request("a"), request("a"), request("b")])
        await read(address, f"{name}.replies", 3)
    async with running(chosen, answering(chosen, worked)):
        await put(address, f"{name}.requests", [(*request("a"), headers), request("a", key=b"other")])
        replies = await read(address, f"{name}.replies", 5)
    assert worked == ["a", "b", "a"]
    assert [json.loads(one.value)["by"] for one in replies] == [0, 0, 2, 0, 4]
    again = dict(replies[3].headers)
    assert (again["correlation-id"], again["duplicate-of"]) == (b"second", f"{name}.requests/0/0".encode())
    assert len({dict(one.headers)["reply-id"] for one in replies}) == 5
    off = settings(address, name, partitions=1, duplicate_window_seconds=0.0)
    async with running(off, answering(off, worked)):
        await put(address, f"{name}.requests", [request("a")])
        await read(address, f"{name}.replies", 6)
    assert worked[3:] == ["a"]


async def test_no_more_is_read_back_for_duplicates_than_they_are_worth(broker, name):
    address = broker.bootstrap_servers
    chosen = settings(address, name, partitions=1, duplicate_window_requests=1)
    worked: list[str] = []
    for count, others in ((1, 0), (2, 10), (13, 30)):
        async with running(chosen, answering(chosen, worked)):
            await put(address, f"{name}.requests", [request("a")])
            await read(address, f"{name}.replies", count, extra_seconds=0.0)
        await put(address, f"{name}.replies", [(b"k", b"another's")] * others)
    async with running(chosen, answering(chosen, worked)):
        await put(address, f"{name}.requests", [request("a")])
        await read(address, f"{name}.replies", 44, extra_seconds=0.0)
    assert worked == ["a", "a"]


async def test_a_request_tried_again_keeps_the_order_of_its_key(broker, name):
    address = broker.bootstrap_servers
    chosen = settings(address, name, partitions=1)
    answer = answering(chosen)

    async def busy(record, emit):
        if b'"a"' in record.value and record.tries < 3:
            raise Postponed(0.2)
        return await answer(record, emit)

    async with running(chosen, busy):
        requests = [request("a"), request("b"), request("c", key=b"j")]
        await put(address, f"{name}.requests", requests)
        replies = await read(address, f"{name}.replies", 3)
    assert [json.loads(one.value)["id"] for one in replies] == ["c", "a", "b"]


async def test_dead_letters_are_listed_shown_and_replayed_as_they_were(broker, name):
    address = broker.bootstrap_servers
    chosen = settings(address, name, partitions=2)
    healthy = asyncio.Event()
    answer = answering(chosen)

    async def sick(record, emit):
        if healthy.is_set():
            return await answer(record, emit)
        letter = dead_letter(record, chosen.dead_letter_topic, InvalidJson("bad \x1b[31m"))
        return [error_reply(record, Envelope.of(record), chosen.reply_topic, InvalidJson()), letter]

    async with running(chosen, sick):
        headers = [("correlation-id", b"c1"), ("mine", b"\xff")]
        await put(address, f"{name}.requests", [(*request("a"), headers), request("b", key=b"j")])
        letters = {one.key: one for one in await read(address, f"{name}.dead-letters", 2)}
        first = f"{letters[b'k'].partition}/{letters[b'k'].offset}"
        listed = await autoglm(chosen, "dlq", "list")
        assert listed.exit_code == 0
        assert "invalid_json" in listed.stdout
        assert "\x1b" not in listed.stdout
        shown = await autoglm(chosen, "dlq", "show", first)
        assert '{"id": "a"}' in shown.stdout
        assert "header    mine: \\xff" in shown.stdout
        assert (await autoglm(chosen, "dlq", "show", "9/9")).exit_code == 1
        assert (await autoglm(chosen, "dlq", "replay")).exit_code == 2
        healthy.set()
        replayed = await autoglm(chosen, "dlq", "replay", first)
        assert replayed.exit_code == 0, replayed.output
        assert f"{first}: sent to {name}.requests/" in replayed.stdout
        assert (await autoglm(chosen, "dlq", "replay", "--all")).exit_code == 0
        replies = await read(address, f"{name}.replies", 5)
    sent = [one for one in await read(address, f"{name}.requests", 5) if one.key == b"k"]
    assert [(one.value, tuple(one.headers)) for one in sent] == [(b'{"id": "a"}', tuple(headers))] * 3
    assert len({one.partition for one in sent}) == 1
    statuses = [json.loads(one.value)["status"] for one in replies if one.key == b"k"]
    assert statuses == ["rejected", "ok", "ok"]


@pytest.mark.parametrize("delivery", ["exactly-once", "at-least-once"])
async def test_a_callers_topic_that_refuses_or_is_gone_keeps_nobody_waiting(broker, name, delivery):
    """Compacted, so that it takes no reply without a key; narrower than it was; deleted."""
    address = broker.bootstrap_servers
    chosen = settings(address, name, partitions=1, delivery=delivery, transaction_timeout_seconds=4)
    compacted, narrow, gone = (f"{name}.{kind}" for kind in ("compacted", "narrow", "gone"))
    await create_topic(address, compacted, **{"cleanup.policy": "compact"})
    for topic in (narrow, gone):
        await create_topic(address, topic)

    def asks(id_: str, topic: str, key: bytes | None = b"k"):
        return key, json.dumps({"id": id_}).encode(), [("reply-topic", topic.encode())]

    async with running(chosen, answering(chosen)) as consumer:
        await put(address, f"{name}.requests", [asks("a", narrow), asks("b", gone), asks("c", compacted)])
        for topic in (narrow, gone, compacted):
            await read(address, topic, 1)
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        await admin.start()
        limit = ConfigResource(ConfigResourceType.TOPIC, narrow, {"max.message.bytes": "100"})
        await admin.alter_configs([limit])
        await admin.delete_topics([gone])
        await admin.close()
        bad = [asks("a2", narrow), asks("b2", gone), asks("c2", compacted, None)]
        await put(address, f"{name}.requests", [*bad, request("good")])
        replies = [json.loads(one.value) for one in await read(address, f"{name}.replies", 4, seconds=60)]
        assert consumer.partitions == 1
    errors = {reply["id"]: reply["error"] for reply in replies if "error" in reply}
    assert {id_: error["code"] for id_, error in errors.items()} == dict.fromkeys(
        ("a2", "b2", "c2"), "unknown_reply_topic"
    )
    assert "compacted" in errors["c2"]["message"]
    assert {reply["status"] for reply in replies if reply["id"] == "good"} == {"ok"}


@pytest.mark.parametrize("delivery", ["exactly-once", "at-least-once"])
async def test_a_callers_topic_that_we_may_not_write_to_keeps_nobody_waiting(broker, name, delivery):
    address = broker.bootstrap_servers
    chosen = settings(address, name, partitions=1, delivery=delivery, transaction_timeout_seconds=4)
    await create_topic(address, f"{name}.forbidden", partitions=2)
    await forbid_writing(address, f"{name}.forbidden")
    forbidden = [("reply-topic", f"{name}.forbidden".encode())]
    with capture_logs() as logs:
        async with running(chosen, answering(chosen)) as consumer:
            bad = [(*request("a"), forbidden), (*request("b", key=b"other"), forbidden)]
            await put(address, f"{name}.requests", [*bad, request("good")])
            replies = [json.loads(one.value) for one in await read(address, f"{name}.replies", 3)]
            assert consumer.partitions == 1
    refused = {log["topic"] for log in logs if log["event"] == "topic_refused"}
    assert refused == {f"{name}.forbidden"}  # it was there, and tried
    errors = {reply["id"]: reply["error"] for reply in replies if "error" in reply}
    assert {id_: error["code"] for id_, error in errors.items()} == dict.fromkeys(
        ("a", "b"), "unknown_reply_topic"
    )
    # Written once more when it went with one that was refused, unless that is one transaction.
    good = [reply["status"] for reply in replies if reply["id"] == "good"]
    assert good == ["ok"] or (delivery == "at-least-once" and set(good) == {"ok"})


async def test_a_lane_that_is_fenced_again_and_again_condemns_nobody(broker, name, monkeypatch):
    """The process lives: it is no request's fault."""
    address = broker.bootstrap_servers
    chosen = settings(address, name, partitions=1, max_attempts=2)
    publish, refusals = TransactionalLane.publish, iter(range(6))

    async def fenced(self, records, mark):
        if records and next(refusals, None) is not None:
            raise LaneFenced("no leader")
        await publish(self, records, mark)

    monkeypatch.setattr(TransactionalLane, "publish", fenced)
    monkeypatch.setattr(assignment, "_RETRY_SECONDS", 0.1)
    worked: list[str] = []
    async with running(chosen, answering(chosen, worked)):
        await put(address, f"{name}.requests", [request("a"), request("b", key=b"other")])
        replies = [json.loads(one.value) for one in await read(address, f"{name}.replies", 2)]
    assert [reply["status"] for reply in replies] == ["ok", "ok"]
    assert len(worked) > 6


async def test_a_record_that_ends_the_process_is_found_refused_and_kept(broker, name):
    address = broker.bootstrap_servers
    chosen = settings(address, name, partitions=2, session_timeout_seconds=1.0, max_attempts=2)
    await create_topic(address, f"{name}.requests", 2)
    requests = [(b"%d" % n, b"die" if n == 5 else b"%d" % n) for n in range(12)]
    await put(address, f"{name}.requests", requests)
    deaths = 0
    while True:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.kafka.worker", chosen.model_dump_json(), "0.1"),
            stdout=asyncio.subprocess.DEVNULL,
            cwd=ROOT,
        )
        letters = asyncio.create_task(read(address, f"{name}.dead-letters", 1, extra_seconds=0.0))
        exit_ = asyncio.create_task(process.wait())
        await asyncio.wait([letters, exit_], return_when=asyncio.FIRST_COMPLETED)
        if letters.done() and letters.result():
            break
        letters.cancel()
        await asyncio.gather(letters, return_exceptions=True)
        deaths += 1
        assert deaths < 7
    replies = await read(address, f"{name}.replies", 12)
    process.send_signal(signal.SIGTERM)
    assert await exit_ == 0
    assert deaths == 2 + 2
    assert [one.value for one in letters.result()] == [b"die"]
    answered = sorted(one.value for one in replies if not one.value.startswith(b"{"))
    assert answered == sorted(b"%d" % n for n in range(12) if n != 5)
    errors = [json.loads(one.value)["error"] for one in replies if one.value.startswith(b"{")]
    assert [(error["code"], error["retryable"]) for error in errors] == [("retries_exhausted", False)]


async def test_a_reader_stopped_at_once_does_not_cancel_who_stops_it(broker, name):
    address = broker.bootstrap_servers
    for _ in range(3):
        consumer = Reader(bootstrap_servers=address)
        await consumer.start()
        await consumer.stop()
    assert asyncio.current_task().cancelling() == 0
