"""Log lines: readable on a terminal, one JSON object a line everywhere else."""

import logging
import sys
from typing import Any

import structlog

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(level: str, form: str) -> None:
    """Send structlog and the standard library's loggers through one renderer to standard error.

    `form` is `auto` (console on a terminal, else json), `console` or `json`; `level` as in `LEVELS`.
    """
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=not console),
    ]
    if not console:
        shared.append(structlog.processors.format_exc_info)
    renderer = (
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # The default one prints every local variable, which stalls the event loop and shows secrets.
            exception_formatter=structlog.dev.plain_traceback,
        )
        if console
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    # aiokafka reports what it retries as errors; what it cannot mend reaches us as an exception. Its reasons
    # are for whoever listens to its logger, as daemon/kafka/brokers/reasons.py does.
    client = logging.getLogger("aiokafka")
    client.handlers[:] = [logging.NullHandler()]
    client.propagate = level == "debug"
    client.setLevel(LEVELS[level] if level == "debug" else logging.WARNING)
