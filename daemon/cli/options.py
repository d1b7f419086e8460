"""Options that several commands share, and what they refuse."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="TOML file; default: $AUTOGLM_CONFIG, else the system's."),
]


def not_empty(text: str) -> str:
    """Callback of an argument. Raises BadParameter."""
    if not text:
        raise typer.BadParameter("must not be empty")
    return text


def above_zero(number: float | None) -> float | None:
    """Callback of an option; typer's own `min` would let 0 pass. Raises BadParameter."""
    if number is not None and not number > 0:
        raise typer.BadParameter(f"{number:g} is not above 0")
    return number
