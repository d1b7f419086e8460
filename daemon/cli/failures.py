"""What commands say when Kafka fails them."""

from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka.errors import KafkaConnectionError, KafkaError

from daemon.kafka.settings import KafkaSettings
from schemas.errors import AutoGLMError


class NoBroker(AutoGLMError):
    """No broker answers; start one (make run) or mend `kafka.bootstrap_servers`."""


class KafkaRefused(AutoGLMError):
    """Kafka did not do what was asked; mend what it says, there or in `[kafka]` of the settings."""


@contextmanager
def explained(settings: KafkaSettings) -> Iterator[None]:
    """Raises NoBroker or KafkaRefused for what aiokafka raises inside."""
    address = settings.bootstrap_servers
    try:
        yield
    except KafkaConnectionError as error:
        raise NoBroker(
            f"No broker answers at {address}; start one (make run) or mend `kafka.bootstrap_servers`."
        ) from error
    except KafkaError as error:
        raise KafkaRefused(
            f"Kafka at {address} did not do what was asked ({error}); mend that there or in `[kafka]`."
        ) from error
