"""Brokers that are away are waited for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from daemon.kafka.backoff import backoff_seconds
from daemon.kafka.brokers.producer import may_pass
from daemon.kafka.settings import KafkaSettings

T = TypeVar("T")

_FIRST_SECONDS, _MOST_SECONDS = 1.0, 30.0
log = structlog.get_logger(__name__)


async def connected(connect: Callable[[], Awaitable[T]], settings: KafkaSettings) -> T:
    """The result of `connect`, which is called again for as long as it fails for a reason that may pass; each
    failure is logged with what to check. Raises its other failures.
    """
    tries = 0
    while True:
        try:
            return await connect()
        except Exception as error:
            if not may_pass(error):
                raise
            tries += 1
            seconds = backoff_seconds(tries, _FIRST_SECONDS, _MOST_SECONDS)
            log.warning(
                "kafka_not_reached",
                servers=settings.bootstrap_servers,
                protocol=settings.security_protocol,
                reason=str(error) or type(error).__name__,
                check="is a broker up there, does this host reach it, and is its listener of this protocol "
                "(`kafka.bootstrap_servers`, `kafka.security_protocol`)?",
                again_in_seconds=round(seconds, 1),
            )
        await asyncio.sleep(seconds)
