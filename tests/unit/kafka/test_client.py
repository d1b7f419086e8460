"""The requester's side, on a reply topic that it shares with others."""

from types import SimpleNamespace

import pytest

import daemon.kafka.client
from daemon.kafka.client import Client
from schemas.reply import Reply


def record(value, correlation=b"mine"):
    return SimpleNamespace(value=value, headers=[("correlation-id", correlation)])


REPLY = Reply(id="r", status="ok").model_dump_json(exclude_none=True).encode()


class Consumer:
    """Gives `batch` at every poll, a second after the last one."""

    def __init__(self, batch):
        self.batch = batch
        self.now = 0.0

    async def getmany(self, timeout_ms):
        self.now += 1.0
        assert self.now <= 10.0, "it reads on after its time"
        return {0: self.batch}


@pytest.fixture
def read(monkeypatch):
    """read(batch, seconds) → what `records` yields in that time when `batch` comes every second."""

    async def read_(batch, seconds):
        consumer = Consumer(batch)
        monkeypatch.setattr(daemon.kafka.client, "AIOKafkaProducer", lambda **_: None)
        monkeypatch.setattr(daemon.kafka.client, "Reader", lambda **_: consumer)
        monkeypatch.setattr(daemon.kafka.client, "time", SimpleNamespace(monotonic=lambda: consumer.now))
        return [found async for found in Client({}, "requests", "replies").records(seconds)]

    return read_


async def test_records_of_others_do_not_lengthen_the_wait(read):
    found = await read([record(REPLY, b"another's")], 3.0)
    assert [correlation for correlation, _ in found] == ["another's"] * 3


async def test_what_is_neither_reply_nor_delta_is_passed_over(read):
    strange = [None, b"", b"\xff", b"[]", b'{"type": "order", "id": "1"}']
    batch = [*map(record, strange), record(REPLY), record(REPLY, None)]
    assert [correlation for correlation, _ in await read(batch, 1.0)] == ["mine", ""]
