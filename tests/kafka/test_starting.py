"""A daemon that starts before its brokers are all there."""

import asyncio
import socket

import pytest
from aiokafka.errors import InvalidReplicationFactorError

from daemon.demo.process import DaemonProcess
from daemon.kafka.brokers.topics import Topics
from tests.faults.proxy import Proxy
from tests.kafka.test_daemon import environment
from tests.kafka.traffic import settings


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


async def test_brokers_that_come_later_are_waited_for(broker, name, tmp_path):
    port, log = free_port(), tmp_path / "log"
    log.touch()
    chosen = settings(f"127.0.0.1:{port}", name)
    process = DaemonProcess(environment(chosen, tmp_path), log=log)
    ready = asyncio.create_task(asyncio.to_thread(process.start))
    proxy = Proxy(port, broker.port)
    try:
        while "kafka_not_reached" not in log.read_text():
            assert not ready.done(), log.read_text()
            await asyncio.sleep(0.05)
        await proxy.start()
        await ready
    finally:
        if process.started:
            status = await asyncio.to_thread(process.stop)
        await proxy.stop()
    assert status == 0, log.read_text()


async def test_too_few_brokers_for_the_topics_may_become_more(broker, name):
    topics = Topics(settings(broker.bootstrap_servers, name, replication_factor=3))
    with pytest.raises(InvalidReplicationFactorError, match=r"Check that .*`kafka\.replication_factor`"):
        await topics.start()
    await topics.stop()
