"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="TOML file; default: $AUTOGLM_CONFIG, else the system's."),
]
