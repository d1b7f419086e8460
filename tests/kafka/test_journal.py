"""Tools whose process is killed: what the next one makes of the journal, on a real broker."""

import asyncio
import json
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from daemon.kafka.consumer import Consumer
from daemon.kafka.envelope import Envelope
from daemon.kafka.errors import JournalUnfit
from daemon.kafka.replies import reply_record
from tests.kafka.traffic import create_topic, echo, opened, put, read, running, settings

ROOT = Path(__file__).parents[2]
BOTH = pytest.mark.parametrize("delivery", ["exactly-once", "at-least-once"])


class Life:
    """One process of tests.kafka.tool_worker."""

    def __init__(self, process):
        self.process = process

    @classmethod
    async def begin(cls, chosen, folder):
        command = (sys.executable, "-m", "tests.kafka.tool_worker", chosen.model_dump_json(), str(folder))
        return cls(await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT))

    async def has_acted(self, *words):
        """Returns when these tools have written their lines."""
        left = Counter(words)
        while +left:
            line = await self.process.stdout.readline()
            assert line, "the process ended"
            if line.startswith(b"acted "):
                left[line.split()[1].decode()] -= 1

    async def end(self, number):
        self.process.send_signal(number)
        await self.process.communicate()
        return self.process.returncode


def effects(folder):
    return [tuple(line.split()) for line in (folder / "effects").read_text().splitlines()]


def reports(reply):
    return [tuple(report) for report in json.loads(reply.value)["tools"]]


async def prepared(broker, name, tmp_path, script, delivery="exactly-once"):
    address = broker.bootstrap_servers
    chosen = settings(address, name, delivery=delivery, session_timeout_seconds=1.0, partitions=1)
    await create_topic(address, f"{name}.requests")
    (tmp_path / "hang").touch()
    await put(address, f"{name}.requests", [(b"k", json.dumps(script).encode())])
    return chosen, await Life.begin(chosen, tmp_path)


async def killed_and_continued(chosen, first, folder):
    assert await first.end(signal.SIGKILL) == -signal.SIGKILL
    (folder / "hang").unlink(missing_ok=True)
    heir = await Life.begin(chosen, folder)
    (reply,) = await read(chosen.bootstrap_servers, chosen.reply_topic, 1, seconds=60)
    assert await heir.end(signal.SIGTERM) == 0
    return reply


@BOTH
async def test_an_outcome_is_reused_and_a_call_in_doubt_runs_again_with_its_key(
    broker, name, tmp_path, delivery
):
    script = [["plain"], ["once_hang"], ["plain"]]
    chosen, first = await prepared(broker, name, tmp_path, script, delivery)
    await first.has_acted("plain", "once_hang")
    reply = await killed_and_continued(chosen, first, tmp_path)
    key = f"{name}.requests/0/0"
    assert effects(tmp_path) == [
        ("plain", f"{key}/0"),
        ("once_hang", f"{key}/1"),
        ("once_hang", f"{key}/1"),
        ("plain", f"{key}/2"),
    ]
    assert json.loads(reply.value)["code"] == "ok"
    assert reports(reply) == [("plain", "ok", True), ("once_hang", "ok", False), ("plain", "ok", False)]


async def test_the_outside_world_is_asked_where_the_tool_says_how(broker, name, tmp_path):
    chosen, first = await prepared(broker, name, tmp_path, [["asked_hang"]])
    await first.has_acted("asked_hang")
    reply = await killed_and_continued(chosen, first, tmp_path)
    assert effects(tmp_path) == [("asked_hang", f"{name}.requests/0/0/0")]
    assert reports(reply) == [("asked_hang", "ok", True)]


async def test_a_call_in_doubt_ends_the_request_and_what_was_done_is_undone(broker, name, tmp_path):
    chosen, first = await prepared(broker, name, tmp_path, [["undoable"], ["plain_hang"], ["plain"]])
    await first.has_acted("undoable", "plain_hang")
    reply = await killed_and_continued(chosen, first, tmp_path)
    assert [word for word, _ in effects(tmp_path)] == ["undoable", "plain_hang", "undo"]
    assert json.loads(reply.value)["code"] == "tool_outcome_unknown"
    assert reports(reply) == [("undoable", "compensated", True), ("plain_hang", "unknown", True)]


async def test_killed_while_undoing_goes_on_undoing(broker, name, tmp_path):
    (tmp_path / "hang_undo").touch()
    chosen, first = await prepared(broker, name, tmp_path, [["undoable"], ["undoable"], ["fail"]])
    await first.has_acted("undo")
    (tmp_path / "hang_undo").unlink()
    # The file was there when the undo began, and the process dies before it looks again or soon after.
    reply = await killed_and_continued(chosen, first, tmp_path)
    key = f"{name}.requests/0/0"
    done = effects(tmp_path)
    assert done[:3] == [("undoable", f"{key}/0"), ("undoable", f"{key}/1"), ("undo", f"{key}/1")]
    assert ("undo", f"{key}/0") in done and done.count(("undoable", f"{key}/0")) == 1
    assert json.loads(reply.value)["code"] == "too_many_rounds"
    assert reports(reply) == [("undoable", "compensated", True)] * 2


@BOTH
async def test_the_journal_is_cleared_behind_the_committed_offset(broker, name, delivery):
    address = broker.bootstrap_servers
    chosen = settings(address, name, delivery=delivery, partitions=1)
    await create_topic(address, f"{name}.requests")

    async def handler(record, emit):
        assert record.notes.saved == {}
        await record.notes.write({"0": b"note"})
        return [reply_record(record, Envelope.of(record), chosen.reply_topic, b"x")]

    async with running(chosen, handler) as consumer:
        await opened(consumer)
        await put(address, f"{name}.requests", [(None, b"%d" % n) for n in range(5)])
        await read(address, chosen.reply_topic, 5)
    async with running(chosen, echo(chosen)) as consumer:
        await opened(consumer)
        await put(address, f"{name}.requests", [(None, b"more")])
        await read(address, chosen.reply_topic, 6)
    records = await read(address, chosen.journal_topic, 10)
    state = {record.key: record.value for record in records}
    assert len(state) == 5 and set(state.values()) == {None}


async def test_notes_of_a_record_that_had_the_same_address_are_not_believed(broker, name):
    address = broker.bootstrap_servers
    chosen = settings(address, name, partitions=1)
    key = f"{name}.requests/0/0/0".encode()
    consumer = Consumer(chosen, echo(chosen))
    await consumer.start()
    await consumer.stop()
    await put(address, chosen.journal_topic, [(key, b"foreign", (("request", b"of another"),))])
    seen = []

    async def handler(record, emit):
        seen.append(dict(record.notes.saved))
        return await echo(chosen)(record, emit)

    async with running(chosen, handler):
        await put(address, f"{name}.requests", [(None, b"x")])
        await read(address, chosen.reply_topic, 1)
    assert seen == [{}]


async def test_the_topic_is_compacted_and_grows_with_the_requests(broker, name):
    address = broker.bootstrap_servers
    chosen = settings(address, name)
    await create_topic(address, f"{name}.requests", 3)
    await create_topic(address, chosen.journal_topic, 1, **{"cleanup.policy": "compact"})
    async with running(chosen, echo(chosen)) as consumer:
        await opened(consumer, 3)
        # The brokers' answers lag behind.
        while (await consumer._topics.find(chosen.journal_topic)).partitions != 3:
            await consumer._topics._refresh()
            await asyncio.sleep(0.05)
    other = settings(address, f"{name}b")
    async with running(other, echo(other)):
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        await admin.start()
        asked = ConfigResource(ConfigResourceType.TOPIC, other.journal_topic, {"cleanup.policy": None})
        while not (found := (await admin.describe_configs([asked]))[0].resources[0][4]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await admin.close()
        assert found[0][:2] == ("cleanup.policy", "compact")


async def test_a_journal_that_would_forget_is_refused(broker, name):
    chosen = settings(broker.bootstrap_servers, name)
    await create_topic(broker.bootstrap_servers, chosen.journal_topic, 2)
    consumer = Consumer(chosen, echo(chosen))
    with pytest.raises(JournalUnfit, match="set it to compact"):
        await consumer.start()
