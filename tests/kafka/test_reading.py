"""Whatever the clients of others write can be read, or costs one answer at most."""

import pytest

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
