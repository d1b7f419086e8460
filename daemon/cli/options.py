"""Options that several commands share, and what they refuse."""

import math
import os
import sys
from pathlib import Path
from typing import Annotated, TypeVar

import typer

T = TypeVar("T", str, Path, None)

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="TOML file; default: $AUTOGLM_CONFIG, else the system's."),
]


def sendable(said: T) -> T:
    """Callback of what goes into a record: Python hides bytes that are no text in this terminal's encoding in
    lone surrogates, and records are UTF-8. Raises BadParameter.
    """
    try:
        os.fspath(said or "").encode()
    except UnicodeEncodeError:
        encoding = sys.getfilesystemencoding()
        raise typer.BadParameter(f"not text in this terminal's encoding, {encoding}") from None
    return said


def not_empty(text: str) -> str:
    """Callback of an argument that goes into a record. Raises BadParameter."""
    if not text:
        raise typer.BadParameter("must not be empty")
    return sendable(text)


def above_zero(number: float | None) -> float | None:
    """Callback of an option; typer's own `min` would let 0 pass. Raises BadParameter."""
    if number is not None and not 0 < number < math.inf:
        raise typer.BadParameter(f"{number:g} is not a number above 0")
    return number
