"""Whatever the clients of others write can be read, or costs one answer at most."""

import asyncio

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.util import calc_crc32c

from schemas.control import Reload
from tests.kafka.traffic import create_topic, echo, put, read, running, settings


@pytest.mark.parametrize("compression", ["gzip", "lz4", "snappy", "zstd"])
async def test_requests_may_be_compressed_in_every_way_that_kafka_knows(broker, name, compression):
    address = broker.bootstrap_servers
    chosen = settings(address, name, partitions=1)
    await create_topic(address, f"{name}.requests", **{"compression.type": compression})
    await put(address, f"{name}.requests", [(b"k", b"x" * 2_000)])
    async with running(chosen, echo(chosen)):
        [reply] = await read(address, f"{name}.replies", 1)
    assert reply.value == b"x" * 2_000


@pytest.fixture
def odd_header(monkeypatch):
    """A header whose name is not UTF-8 once it is sent, as clients in other languages can send it."""
    build = BatchBuilder._build

    def spoilt(self):
        data = bytearray(build(self))
        if (at := data.find(b"??name")) >= 0:
            data[at : at + 2] = b"\xff\xfe"
            data[17:21] = calc_crc32c(bytes(data[21:])).to_bytes(4, "big")
        return bytes(data)

    monkeypatch.setattr(BatchBuilder, "_build", spoilt)
    return ("??name", b"1")


async def test_a_headers_name_need_not_be_utf8(broker, name, odd_header):
    """On a request, and on an order."""
    address = broker.bootstrap_servers
    chosen = settings(address, name, partitions=1)
    orders = asyncio.Queue()
    order = Reload(type="reload", instance="odd").model_dump_json().encode()
    await create_topic(address, f"{name}.requests")
    await put(address, f"{name}.requests", [(b"k", b"first"), (b"k", b"odd", [odd_header]), (b"k", b"last")])
    async with running(chosen, echo(chosen), on_order=orders.put_nowait):
        replies = await read(address, f"{name}.replies", 3)
        await put(address, f"{name}.control", [(None, order, [odd_header])])
        assert (await orders.get()).instance == "odd"
    assert [reply.value for reply in replies] == [b"first", b"odd", b"last"]
    [record] = [one for one in await read(address, f"{name}.requests", 3) if one.value == b"odd"]
    assert dict(record.headers) == {"\ufffd\ufffdname": b"1"}
