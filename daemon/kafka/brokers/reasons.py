"""Why the client could not connect: it writes that to its log, and its exception does not say."""

import logging
from types import TracebackType
from typing import Self

# The parent of its other loggers, used by the part that connects.
_NAME = "aiokafka"


class Reasons(logging.Handler):
    """Collects, inside its latest `with` block, what the client says of brokers that it cannot connect to."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: dict[str, None] = {}  # in their order, each once

    def __str__(self) -> str:
        return "; ".join(self._said)

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == _NAME:
            self._said[record.getMessage()] = None

    def __enter__(self) -> Self:
        self._said.clear()
        logging.getLogger(_NAME).addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger(_NAME).removeHandler(self)
