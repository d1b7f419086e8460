"""The `autoglm` command. Each file here is one command; heavy imports wait until a command needs them."""

import io
import sys
from typing import Annotated

import typer

from daemon.cli import ask, broker, build, cancel, check, complete, demo, dlq, engine, inspect, run
from daemon.ending import end, exit_code
from schemas.errors import AutoGLMError

app = typer.Typer(
    name="autoglm",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        from daemon.version import VERSION

        typer.echo(f"autoglm {VERSION}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Answer Apache Kafka requests with GLM models."""


app.command("run")(run.run)
app.command("ask")(ask.ask)
app.command("cancel")(cancel.cancel)
app.command("demo")(demo.demo)
app.command("check")(check.check)
app.command("build")(build.build)
app.command("inspect")(inspect.inspect)
app.command("complete")(complete.complete)
app.add_typer(broker.app, name="broker")
app.add_typer(dlq.app, name="dlq")
app.add_typer(engine.app, name="engine")


def main() -> None:
    """Entry point: expected errors are one sentence on standard error, never a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Answers are in any language, the terminal's encoding may be for one: as standard error does it.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except AutoGLMError as error:
        print(f"autoglm: {error}", file=sys.stderr)
        end(exit_code(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if not _of_kafka(error):
            raise
        print(
            f"autoglm: Kafka: {str(error) or type(error).__name__}; check that the brokers are up, "
            "`kafka.bootstrap_servers`, `kafka.security_protocol`, and what this client may do there.",
            file=sys.stderr,
        )
        sys.exit(1)


def _of_kafka(error: Exception) -> bool:
    from aiokafka.errors import KafkaError

    return isinstance(error, KafkaError)
