"""`autoglm inspect`: what an engine folder promises."""

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    engine: Annotated[Path, typer.Argument(help="An engine folder.")],
    quick: Annotated[bool, typer.Option("--quick", help="Do not check every byte.")] = False,
) -> None:
    """Print an engine's manifest readably, after checking its files against it."""
    from engines.build.inspection import inspect as read

    for heading, values in read(engine, verify=not quick).items():
        typer.echo(heading)
        for label, value in values.items():
            typer.echo(f"  {label:<24} {value}")
