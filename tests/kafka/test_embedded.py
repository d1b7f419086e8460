"""The embedded broker as a process: what it refuses, what it keeps, what it leaves behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from daemon.errors import PrerequisiteMissing
from daemon.kafka.embedded import EmbeddedBroker, java
from daemon.kafka.embedded.files import resolve_jars
from daemon.kafka.errors import BrokerFailed, PortBusy

ROOT = Path(__file__).parents[2]


def gone(pid: int, within_seconds: float) -> bool:
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        # A child of a killed parent may stay as a zombie until init reaps it.
        if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


async def test_keeps_data_and_port_over_stop_and_crash(tmp_path):
    broker = EmbeddedBroker(tmp_path / "josé 数据")  # as below somebody's home folder
    try:
        address = broker.start()
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        await admin.start()
        await admin.create_topics([NewTopic("kept", 1, 1)])
        await admin.close()
        await put(address, b"before the stop")
        broker.stop()
        assert broker.start() == address
        await put(address, b"before the crash")
        broker.kill()
        assert broker.start() == address
        assert await values(address) == [b"before the stop", b"before the crash"]
        pid = broker.pid
    finally:
        broker.stop()
    assert broker.pid is None
    assert gone(pid, 1.0)
    assert [folder.name for folder in tmp_path.iterdir()] == [broker.data.name]


async def put(address: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=address, acks="all") as producer:
        await producer.send_and_wait("kept", value)


async def values(address: str) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partition = TopicPartition("kept", 0)
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        found: list[bytes] = []
        while len(found) < end:
            found += [record.value for record in (await consumer.getmany(timeout_ms=500)).get(partition, [])]
        return found
    finally:
        await consumer.stop()


def test_dies_with_a_killed_parent(tmp_path, broker):
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom daemon.kafka.embedded import EmbeddedBroker\n"
        "b = EmbeddedBroker(Path(sys.argv[1])); b.start(); print(b.pid, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as parent:
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    assert gone(pid, 5.0)


def test_a_busy_port_is_named(tmp_path, broker):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortBusy, match=f"Port {port} is taken"):
            EmbeddedBroker(tmp_path, port=port).start()


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_cannot_be_used_is_named(tmp_path, broker, place):
    (tmp_path / "file").touch()
    with pytest.raises(BrokerFailed, match=rf"cannot be kept in {tmp_path / place}: .*; choose a folder"):
        EmbeddedBroker(tmp_path / place).start()


def test_data_in_use_is_refused_and_nothing_is_left_running(tmp_path, broker):
    second = EmbeddedBroker(broker.data)
    with pytest.raises(BrokerFailed, match="already runs on"):
        second.start()
    assert second.pid is None


def test_missing_java_and_maven_are_named_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    java.find_java.cache_clear()
    try:
        with pytest.raises(PrerequisiteMissing, match="needs Java, and PATH has none: install a JDK 17"):
            EmbeddedBroker(tmp_path / "data", cache=tmp_path / "cache").start()
        old = tmp_path / "java"
        old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
        old.chmod(0o755)
        with pytest.raises(PrerequisiteMissing, match=r"needs Java 17, .*/java is 11\.0\.2: install"):
            java.find_java()
    finally:
        java.find_java.cache_clear()
    with pytest.raises(PrerequisiteMissing, match="`mvn` is not on PATH: install Maven"):
        resolve_jars(tmp_path / "cache")


def test_a_failed_download_leaves_nothing_and_gives_the_reason(tmp_path, monkeypatch):
    maven = tmp_path / "mvn"
    maven.write_text("#!/bin/sh\necho '[ERROR] Could not transfer artifact: connection refused'; exit 1\n")
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(PrerequisiteMissing, match=r"Could not transfer artifact.*check the network"):
        resolve_jars(tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["lock"]
