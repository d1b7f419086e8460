"""`autoglm build`: a Hugging Face checkpoint becomes an engine folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from daemon.cli.options import above_zero
from engines.manifest import Precision

if TYPE_CHECKING:
    from engines.build.memory import MemoryPlan

GIB = 2**30
CHUNK = 256


def build(
    checkpoint: Annotated[
        Path, typer.Argument(help="Hugging Face folder: config.json, safetensors, tokenizer.")
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The engine folder to write.")] = None,
    precision: Annotated[
        Precision,
        typer.Option(help="Of the weights; fp8 also of what goes into them (tensorrt, calibrated)."),
    ] = "int4",
    block: Annotated[
        int, typer.Option(help="Weights that share a scale, where their number allows it: 128, 64, 32, 16.")
    ] = 128,
    runtime: Annotated[
        Literal["onnxruntime", "tensorrt"], typer.Option(help="What will run it; tensorrt compiles a plan.")
    ] = "onnxruntime",
    standard: Annotated[
        bool, typer.Option("--standard", help="Also write the graph in standard ONNX operators.")
    ] = False,
    calibration: Annotated[
        Path | None, typer.Option(help="Text file, one passage a line: quantize by what it does to them.")
    ] = None,
    held_out: Annotated[
        Path | None, typer.Option(help="Text file, one passage a line: measure the loss of quality on them.")
    ] = None,
    slots: Annotated[int, typer.Option(min=1, help="TensorRT: rows that the plan can decode together.")] = 8,
    capacity: Annotated[int, typer.Option(min=16, help="TensorRT: tokens per slot.")] = 4096,
    capability: Annotated[
        list[str] | None, typer.Option(help="TensorRT: target compute capability, as 8.9; may be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what it would need.")] = False,
    device_gib: Annotated[
        float | None, typer.Option(help="With --dry-run: memory of the GPU.", callback=above_zero)
    ] = None,
) -> None:
    """Build an engine from a checkpoint."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from daemon.errors import InvalidRequest
    from daemon.settings import cache_folder
    from engines.build import PlanOptions
    from engines.build import build as build_engine
    from engines.build.memory import memory_plan

    compiled = runtime == "tensorrt"
    if dry_run:
        room = None if device_gib is None else int(device_gib * GIB)
        _print(memory_plan(checkpoint, precision=precision, block=block, plan=compiled, device_bytes=room))
        return
    if out is None:
        raise InvalidRequest("--out is missing: name the engine folder to write, or use --dry-run.")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("reading", total=None)

        def progress(stage: str, done: int, total: int) -> None:
            bar.update(task, description=stage, completed=done, total=total)

        options = PlanOptions(
            slots=slots,
            capacity=capacity,
            chunk=CHUNK,
            capabilities=tuple(capability or ()),
            timing_cache=cache_folder() / "timing.cache",
        )
        manifest = build_engine(
            checkpoint,
            out,
            precision=precision,
            block=block,
            dialects=("fused", "standard") if standard else None,
            plan=options if compiled else None,
            calibration=_passages(calibration),
            held_out=_passages(held_out),
            progress=progress,
        )
    size = sum(entry.bytes for entry in manifest.files.values())
    typer.echo(f"{out}: {manifest.family} {manifest.precision} for {manifest.runtime}, {size / 1e6:.1f} MB")


def _passages(file: Path | None) -> list[str]:
    from daemon.errors import InvalidRequest

    if file is None:
        return []
    try:
        passages = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{file} cannot be read ({error}); give a UTF-8 text file.") from error
    if not passages:
        raise InvalidRequest(f"{file} is empty; give text like the model's work, one passage a line.")
    return passages


def _print(plan: "MemoryPlan") -> None:
    typer.echo(f"{plan.name}: {plan.family} {plan.precision}, {plan.parameters / 1e6:.1f} M parameters")
    typer.echo(f"  weights    {plan.weights_bytes / GIB:8.3f} GiB")
    typer.echo(f"  workspace  {plan.workspace_bytes / GIB:8.3f} GiB (estimate)")
    typer.echo(f"  KV cache   {plan.kv_bytes_per_token / 1024:8.1f} KiB per token and slot")
    if plan.device_bytes is None:
        typer.echo("  give --device-gib to see what fits")
    elif not plan.fits:
        typer.echo(f"  nothing fits into {plan.device_bytes / GIB:.3g} GiB: choose a smaller precision")
    for context, most in plan.fits:
        typer.echo(f"  {most:5d} slots × {context:6d} tokens fit")
