"""`autoglm broker`: the embedded Apache Kafka for development."""

import signal
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The embedded Apache Kafka for development.", no_args_is_help=True)


@app.command()
def fetch() -> None:
    """Download the broker's files and prepare a fast start, unless the cache has both."""
    from daemon.kafka.embedded import EmbeddedBroker
    from daemon.kafka.embedded.files import default_cache

    EmbeddedBroker.train(default_cache())


@app.command()
def start(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 chooses a free one.")] = 9092,
    data: Annotated[Path | None, typer.Option(help="Where its data is kept.")] = None,
) -> None:
    """Run a broker until SIGTERM or SIGINT."""
    from daemon.kafka.embedded import EmbeddedBroker
    from daemon.settings import state_folder

    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with EmbeddedBroker(data or state_folder() / "kafka", port=port or None) as broker:
        typer.echo(f"broker at {broker.bootstrap_servers}; stop it with Ctrl-C")
        signal.sigwait(signals)
