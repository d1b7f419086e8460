"""`autoglm build`: a Hugging Face checkpoint becomes an engine folder."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from engines.manifest import Precision


def build(
    checkpoint: Annotated[
        Path, typer.Argument(help="Hugging Face folder: config.json, safetensors, tokenizer.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The engine folder to write.")],
    precision: Annotated[Precision, typer.Option(help="Of the weights.")] = "int4",
    runtime: Annotated[
        Literal["onnxruntime", "tensorrt"], typer.Option(help="What will run it; tensorrt compiles a plan.")
    ] = "onnxruntime",
    standard: Annotated[
        bool, typer.Option("--standard", help="Also write the graph in standard ONNX operators.")
    ] = False,
    slots: Annotated[int, typer.Option(min=1, help="TensorRT: rows that the plan can decode together.")] = 16,
    capacity: Annotated[int, typer.Option(min=16, help="TensorRT: tokens per slot.")] = 2048,
) -> None:
    """Build an engine from a checkpoint."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from engines.build import PlanOptions
    from engines.build import build as build_engine

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("reading", total=None)

        def progress(stage: str, done: int, total: int) -> None:
            bar.update(task, description=stage, completed=done, total=total)

        manifest = build_engine(
            checkpoint,
            out,
            precision=precision,
            dialects=("fused", "standard") if standard else None,
            plan=PlanOptions(slots=slots, capacity=capacity) if runtime == "tensorrt" else None,
            progress=progress,
        )
    size = sum(entry.bytes for entry in manifest.files.values())
    typer.echo(f"{out}: {manifest.family} {manifest.precision} for {manifest.runtime}, {size / 1e6:.1f} MB")
