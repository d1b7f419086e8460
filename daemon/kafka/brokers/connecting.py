"""Brokers that are away are waited for."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from daemon.kafka.brokers.patience import patiently
from daemon.kafka.brokers.reasons import Reasons
from daemon.kafka.settings import KafkaSettings, SecurityProtocol

T = TypeVar("T")

log = structlog.get_logger(__name__)


async def connected(connect: Callable[[], Awaitable[T]], settings: KafkaSettings) -> T:
    """The result of `connect`, which is called again for as long as it fails for a reason that may pass; each
    failure is logged with its reason and what to check. Raises its other failures.
    """
    reasons = Reasons()

    async def attempt() -> T:
        with reasons:
            return await connect()

    def tell(error: Exception, seconds: float) -> None:
        log.warning(
            "kafka_not_reached",
            servers=settings.bootstrap_servers,
            protocol=settings.security_protocol,
            error=str(error) or type(error).__name__,
            reason=str(reasons) or None,
            check=_what_to_check(settings.security_protocol),
            again_in_seconds=seconds,
        )

    return await patiently(attempt, tell)


def _what_to_check(protocol: SecurityProtocol) -> str:
    keys = ["bootstrap_servers", "security_protocol"]
    if protocol.startswith("SASL"):
        keys += ["sasl_mechanism", "sasl_username", "sasl_password"]
    if protocol.endswith("SSL"):
        keys += ["tls_ca_file", "tls_cert_file", "tls_key_file"]
    fitting = ", ".join(f"kafka.{key}" for key in keys)
    return f"a broker is up there, this host reaches what it advertises, its listener fits {fitting}"
