"""The factory: a checkpoint folder becomes an engine folder, whole or not at all."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from engines.build.calibrate import calibrate
from engines.build.checkpoint import COMPANIONS, Checkpoint
from engines.build.graph.builder import GraphBuilder
from engines.build.graph.dialects import DIALECTS, FILES, PLAN_DIALECT
from engines.build.graph.model import write_model
from engines.build.plan import PlanOptions, compile_plan, load_flavour
from engines.build.quality import measure
from engines.build.quantize import BLOCKS
from engines.build.recipe import Recipe
from engines.build.windows import Text, Windows, windows
from engines.errors import BuildError, EngineFolderError
from engines.manifest import Dialect, FileEntry, KVLayout, Manifest, Plan, Precision, Sizes

Progress = Callable[[str, int, int], None]
"""Called as progress(step, done, total) while a step goes on."""

REVISION = 1
"""Raised when the same checkpoint and options give other files than before."""

PLAN_FILE = "model.plan"
HELD_OUT = 8192
"""Tokens the report is made on, at most."""


@dataclass(frozen=True)
class Order:
    """Everything that decides what is in the engine folder."""

    recipe: Recipe
    dialects: tuple[Dialect, ...]
    plan: PlanOptions | None
    name: str
    calibration: Windows = field(default_factory=list)
    held_out: Windows = field(default_factory=list)

    def versions(self) -> dict[str, str]:
        """What writes the files."""
        found = {package: version(package) for package in ("onnx", "numpy")} | {"factory": str(REVISION)}
        if self.plan:
            trt = load_flavour(self.plan.flavour)
            found[trt.__name__] = trt.__version__
        return found


def build(
    checkpoint: Path,
    out: Path,
    *,
    precision: Precision = "fp32",
    dialects: Sequence[Dialect] | None = None,
    block: int = 128,
    plan: PlanOptions | None = None,
    calibration: Sequence[Text] = (),
    held_out: Sequence[Text] = (),
    name: str | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Build the engine folder `out` from a Hugging Face folder; nothing to do if it is there already.

    dialects: which ONNX graphs to write (default: fused, or none beside a plan); the first one serves.
    plan: compile a TensorRT plan with these options. calibration: text like the model's work; quantized
    weights are then solved for it (GPTQ) instead of rounded. held_out: other such text, to report the
    damage on in `Manifest.quality`. name: of the model (default: the folder's).

    Raises CheckpointError or UnsupportedModel before anything is written, BuildError when a step fails.
    An interrupted build leaves no `out`; an existing engine in `out` is replaced in one step.
    """
    say: Progress = progress or _quiet
    source = Checkpoint(checkpoint)
    chosen: tuple[Dialect, ...] = (() if plan else ("fused",)) if dialects is None else tuple(dialects)
    order = Order(Recipe(precision, block), chosen, plan, name or checkpoint.resolve().name)
    order = replace(
        order, calibration=windows(source, calibration), held_out=windows(source, held_out, HELD_OUT)
    )
    _check(order, out)
    fingerprint = _fingerprint(source, order, say)
    existing = _existing(out)
    if existing and existing.source_sha256 == fingerprint:
        return existing
    with _all_or_nothing(out) as work:
        return _fill(source, work, order, fingerprint, say)


def _quiet(step: str, done: int, total: int) -> None:
    pass


def _check(order: Order, out: Path) -> None:
    if order.recipe.precision not in get_args(Precision):
        raise BuildError(f"precision {order.recipe.precision!r} is none of {', '.join(get_args(Precision))}")
    if order.recipe.block not in BLOCKS:
        raise BuildError(f"block {order.recipe.block} is none of {', '.join(map(str, BLOCKS))}")
    if unknown := [kind for kind in order.dialects if kind not in DIALECTS]:
        raise BuildError(f"dialect {unknown[0]!r} is none of {', '.join(DIALECTS)}")
    if not order.dialects and not order.plan:
        raise BuildError("neither a dialect nor a plan is asked for")
    if out.exists() and not (out.is_dir() and ((out / "manifest.json").is_file() or not any(out.iterdir()))):
        raise BuildError(f"{out} exists and is no engine folder; give another place for the engine")


def _existing(out: Path) -> Manifest | None:
    """The engine that is there already, if it is whole."""
    try:
        return Manifest.load(out)
    except EngineFolderError:
        return None


def _fingerprint(source: Checkpoint, order: Order, say: Progress) -> str:
    """Of the order, the tools and every byte of the checkpoint."""
    plan = replace(order.plan, timing_cache=None) if order.plan else None
    settings = order.recipe, order.dialects, plan, order.name, order.versions()
    digest = hashlib.sha256(repr(settings).encode())
    for kind in (order.calibration, order.held_out):
        digest.update(f"{len(kind)} windows".encode())
        for window in kind:
            digest.update(window.tobytes())
    files = source.files()
    for index, path in enumerate(files):
        digest.update(f"{path.name}:{FileEntry.of(path).sha256}".encode())
        say("checkpoint", index + 1, len(files))
    return digest.hexdigest()


@contextmanager
def _all_or_nothing(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place when the block ends well."""
    work: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        yield work
        work.chmod(0o755)
        if out.exists():
            old = work.with_name(work.name + ".old")
            out.rename(old)
            work.rename(out)
            shutil.rmtree(old, ignore_errors=True)
        else:
            work.rename(out)
    except OSError as error:
        raise BuildError(f"{error.filename or out} cannot be written: {error.strerror or error}") from error
    finally:
        if work:
            shutil.rmtree(work, ignore_errors=True)


def _fill(source: Checkpoint, work: Path, order: Order, fingerprint: str, say: Progress) -> Manifest:
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        if order.calibration and order.recipe.precision != "fp32":
            solution = calibrate(
                source, order.recipe, order.calibration, Path(scratch), lambda d, n: say("calibration", d, n)
            )
            order = replace(order, recipe=replace(order.recipe, solution=solution))
        return _write(source, work, order, fingerprint, say)


def _write(source: Checkpoint, work: Path, order: Order, fingerprint: str, say: Progress) -> Manifest:
    for kind in order.dialects:
        _write_graph(source, work / FILES[kind], order, kind, say)
    quality = _report(source, work, order, say) if order.held_out else None
    plan = _compile(source, work, order, order.plan, say) if order.plan else None
    for companion in COMPANIONS:
        if (source.folder / companion).is_file():
            shutil.copyfile(source.folder / companion, work / companion)
    say("files", 0, 1)
    files = {path.name: FileEntry.of(path) for path in sorted(work.iterdir()) if path.is_file()}
    manifest = _manifest(source, order, plan, fingerprint, files).model_copy(update={"quality": quality})
    manifest.save(work)
    say("files", 1, 1)
    return manifest


def _write_graph(source: Checkpoint, path: Path, order: Order, kind: str, say: Progress) -> None:
    dialect = PLAN_DIALECT if kind == "plan" else DIALECTS[kind]
    with GraphBuilder(path) as builder:
        writer = dialect(builder, source.parameters, source.tensors, order.recipe)
        if kind == "plan" and order.plan:
            writer.capacity = order.plan.capacity
        write_model(writer, lambda done, total: say(f"graph ({kind})", done, total))
        builder.save()


def _report(source: Checkpoint, work: Path, order: Order, say: Progress) -> dict[str, Any]:
    """Measured on the first graph, or on one written for the purpose beside a plan."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        graph = work / FILES[order.dialects[0]] if order.dialects else Path(folder) / FILES["fused"]
        if not order.dialects:
            _write_graph(source, graph, order, "fused", say)
        found = measure(source, graph, order.held_out, lambda done, total: say("quality", done, total))
    calibrated = order.recipe.solution is not None
    return found | {
        "method": "gptq" if calibrated else "rounding",
        "calibration_tokens": sum(map(len, order.calibration)) if calibrated else 0,
    }


def _compile(source: Checkpoint, work: Path, order: Order, options: PlanOptions, say: Progress) -> Plan:
    if options.capacity > source.config.context:
        raise BuildError(
            f"capacity {options.capacity} is more than the model's context {source.config.context}"
        )
    with tempfile.TemporaryDirectory(dir=work) as folder:
        _write_graph(source, Path(folder) / "model.onnx", order, "plan", say)
        return compile_plan(Path(folder) / "model.onnx", work / PLAN_FILE, options, say)


def _manifest(
    source: Checkpoint, order: Order, plan: Plan | None, fingerprint: str, files: dict[str, FileEntry]
) -> Manifest:
    config, layout, recipe = source.config, source.parameters.layout, order.recipe
    dtype = "bfloat16" if plan else "float32"
    capacity = plan.capacity if plan else "capacity"
    return Manifest(
        name=order.name,
        family=config.family,
        precision=recipe.precision,
        block=None if recipe.precision == "fp32" else recipe.block,
        dtype=dtype,
        runtime=plan.flavour if plan else "onnxruntime",
        dialect="standard" if plan else order.dialects[0],
        graphs={kind: FILES[kind] for kind in order.dialects},
        sizes=Sizes(
            layers=config.layers,
            hidden=config.hidden,
            heads=config.heads,
            kv_heads=config.kv_heads,
            head_dim=layout.width,
            vocab_size=config.vocab_size,
            context=config.context,
            parameters=source.parameters.count(),
        ),
        kv=KVLayout(dtype=dtype, shape=("slots", config.kv_heads, capacity, layout.width)),
        eos_token_ids=list(config.eos_token_ids),
        tokenizer_sha256=files["tokenizer.json"].sha256 if "tokenizer.json" in files else None,
        source_sha256=fingerprint,
        builder=order.versions(),
        plan=plan,
        files=files,
    )
