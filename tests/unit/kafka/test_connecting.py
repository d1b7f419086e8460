import asyncio

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupAuthorizationFailedError
from structlog.testing import capture_logs

from daemon.kafka.brokers import patience
from daemon.kafka.brokers.connecting import connected
from daemon.kafka.settings import KafkaSettings


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(patience, "_FIRST_SECONDS", 0.0)


async def answer(reader, writer):
    """What a listener of another protocol does."""
    await reader.read(1)
    writer.write(b"nope\n")
    writer.close()


@pytest.mark.parametrize(
    ("protocol", "reason"), [("SSL", "[SSL"), ("PLAINTEXT", "KafkaConnectionError: Connection")]
)
async def test_the_line_of_an_attempt_tells_the_reason_and_what_to_check(protocol, reason):
    outcomes = []

    async def connect():
        if outcomes:
            return "connected"
        outcomes.append("failed")
        admin = AIOKafkaAdminClient(**settings.connection())
        try:
            await admin.start()
        finally:
            await admin.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        settings = KafkaSettings(bootstrap_servers=address, security_protocol=protocol)
        with capture_logs() as lines:
            assert await connected(connect, settings) == "connected"
    (line,) = lines
    assert (line["event"], line["servers"], line["protocol"]) == ("kafka_not_reached", address, protocol)
    assert f'Unable connect to "{address}": {reason}' in line["reason"]
    assert ("kafka.tls_ca_file" in line["check"]) == (protocol == "SSL")


async def test_what_will_not_pass_is_raised():
    async def connect():
        raise GroupAuthorizationFailedError("autoglm")

    with pytest.raises(GroupAuthorizationFailedError):
        await connected(connect, KafkaSettings())
