"""`autoglm run`: the daemon."""

import os
from typing import Annotated

import typer

from daemon.cli.options import Config
from daemon.ending import end


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
        end(loop.run(app.run()))

    from daemon.kafka.embedded import EmbeddedBroker

    if "AUTOGLM_KAFKA__BOOTSTRAP_SERVERS" in os.environ:
        # Whoever names a cluster wants that one, not one of ours at the same address.
        end(loop.run(app.run()))
    port = int(settings.kafka.bootstrap_servers.split(",")[0].rpartition(":")[2])
    with EmbeddedBroker(state_folder() / "kafka", port=port):
        code = loop.run(app.run())
    end(code)
