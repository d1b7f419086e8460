"""`autoglm run`: the daemon."""

import logging
import os
import sys
from typing import Annotated, NoReturn

import typer

from daemon.cli.options import Config
from engines.errors import GpuFailed


def run(
    config: Config = None,
    with_broker: Annotated[
        bool,
        typer.Option("--with-broker", help="Start an embedded Apache Kafka at the configured address, too."),
    ] = False,
) -> None:
    """Consume requests and publish replies until SIGTERM or SIGINT; a second one forces."""
    from daemon import loop
    from daemon.app import App
    from daemon.ops import logs
    from daemon.settings import load, state_folder

    settings = load(config)
    logs.configure(settings.log.level, settings.log.format)
    app = App(settings, lambda: load(config))
    if not with_broker:
        _exit(loop.run(app.run()))

    from daemon.kafka.embedded import EmbeddedBroker

    if "AUTOGLM_KAFKA__BOOTSTRAP_SERVERS" in os.environ:
        # Whoever names a cluster wants that one, not one of ours at the same address.
        _exit(loop.run(app.run()))
    port = int(settings.kafka.bootstrap_servers.split(",")[0].rpartition(":")[2])
    with EmbeddedBroker(state_folder() / "kafka", port=port):
        code = loop.run(app.run())
    _exit(code)


def _exit(code: int) -> NoReturn:
    if code == GpuFailed.exit_code:
        # What libraries do at the end of a process would wait for the GPU for ever.
        logging.shutdown()
        os._exit(code)
    sys.exit(code)
