"""`autoglm cancel`: call a request off."""

import asyncio
from typing import Annotated

import typer

from daemon.cli.options import Config, not_empty, sendable


def cancel(
    id: Annotated[str, typer.Argument(help="The request's id, as in its reply.", callback=not_empty)],
    correlation: Annotated[
        bool, typer.Option("--correlation", help="ID is the request's `correlation-id` header.")
    ] = False,
    key: Annotated[
        str | None, typer.Option(help="Only a request with this record key.", callback=sendable)
    ] = None,
    config: Config = None,
) -> None:
    """Tell every daemon that a request is not wanted any more; it is answered `cancelled`."""
    from daemon.cli.producing import send_control
    from daemon.settings import load
    from schemas.control import Cancel

    message = Cancel(correlation_id=id) if correlation else Cancel(id=id)
    settings = load(config).kafka
    asyncio.run(send_control(settings, message, key.encode() if key else None))
    typer.echo(f"asked on {settings.control_topic}; the request's reply tells whether it came in time")
