"""`autoglm build`: a Hugging Face checkpoint becomes an engine folder."""

from pathlib import Path
from typing import Annotated

import typer

from engines.manifest import Dialect, Precision


def build(
    checkpoint: Annotated[
        Path, typer.Argument(help="Hugging Face folder: config.json, safetensors, tokenizer.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The engine folder to write.")],
    precision: Annotated[Precision, typer.Option(help="Of the weights.")] = "int4",
    dialect: Annotated[
        list[Dialect] | None, typer.Option(help="fused (ONNX Runtime) and/or standard (source of TensorRT).")
    ] = None,
) -> None:
    """Build an engine from a checkpoint."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from engines.build import build as build_engine

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("reading", total=None)

        def progress(stage: str, done: int, total: int) -> None:
            bar.update(task, description=stage, completed=done, total=total)

        manifest = build_engine(
            checkpoint, out, precision=precision, dialects=dialect or ("fused",), progress=progress
        )
    size = sum(entry.bytes for entry in manifest.files.values())
    typer.echo(f"{out}: {manifest.family} {manifest.precision}, {size / 1e6:.1f} MB")
