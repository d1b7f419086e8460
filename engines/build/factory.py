"""The factory: a checkpoint folder becomes an engine folder, whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engines.build.calibrate import calibrate
from engines.build.checkpoint import COMPANIONS, Checkpoint
from engines.build.folder import all_or_nothing, reserved
from engines.build.graph.builder import GraphBuilder
from engines.build.graph.dialects import DIALECTS, FILES, PLAN_DIALECT
from engines.build.graph.model import write_model
from engines.build.order import Order
from engines.build.plan import PlanOptions, compile_plan
from engines.build.quality import Reference
from engines.build.recipe import Recipe
from engines.build.windows import Text, calibration_tokens, sample, windows
from engines.errors import EngineFolderError
from engines.manifest import Dialect, FileEntry, KVLayout, Manifest, Plan, Precision, Sizes

Progress = Callable[[str, int, int], None]
"""Called as progress(step, done, total) while a step goes on."""

PLAN_FILE = "model.plan"
HELD_OUT = 8192
"""Tokens the report is made on, at most."""
ENDS = 8192
"""Tokens embedding and head are judged on, at most."""
ENDS_TOLERANCE = 1.1
"""How much more divergence 4 bits in embedding and head may cost than 8."""


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

    Raises CheckpointError, UnsupportedModel or, for an order that cannot be met, BuildError before anything
    is written; CheckpointError for weights that are not finite, BuildError when a step fails.
    An interrupted build leaves `out` as it was; an existing engine in `out` is replaced in one step (in two
    where the file system cannot, and the next build mends what was killed between them), anything else in it
    is refused. Who asks for an `out` that another process builds waits for that.
    """
    say: Progress = progress or _quiet
    source, out = Checkpoint(checkpoint), Path(os.path.realpath(out))
    chosen: tuple[Dialect, ...] = (() if plan else ("fused",)) if dialects is None else tuple(dialects)
    recipe = Recipe(precision, block, whole_rows=plan is not None)
    order = Order(recipe, chosen, plan, name or checkpoint.resolve().name)
    order = replace(
        order,
        calibration=windows(source, calibration, calibration_tokens(source)),
        held_out=windows(source, held_out, HELD_OUT),
    )
    order.check(source, out)
    fingerprint = order.fingerprint(source, lambda done, total: say("checkpoint", done, total))
    if existing := _existing(out, fingerprint):
        return existing
    with reserved(out):
        if existing := _existing(out, fingerprint):  # built by another process meanwhile
            return existing
        with all_or_nothing(out) as work:
            manifest = _fill(source, work, order, fingerprint, say)
            order.check(source, out)  # hours may have passed, and somebody have put something there
            return manifest


def _quiet(step: str, done: int, total: int) -> None:
    pass


def _existing(out: Path, fingerprint: str) -> Manifest | None:
    """The engine that is there already, if it is this one and whole."""
    try:
        manifest = Manifest.load(out, verify=False)
        if manifest.source_sha256 != fingerprint:
            return None
        manifest.verify(out)
    except EngineFolderError:
        return None
    return manifest


def _fill(source: Checkpoint, work: Path, order: Order, fingerprint: str, say: Progress) -> Manifest:
    quality = None
    with tempfile.TemporaryDirectory(dir=work) as folder:
        scratch = Path(folder)
        if order.calibration and order.recipe.precision != "fp32":
            order = _solve(source, scratch, order, say)
        for kind in order.dialects:
            _write_graph(source, work / FILES[kind], order, kind, say)
        if order.held_out:
            graph = work / FILES[order.dialects[0]] if order.dialects else scratch / FILES["fused"]
            if not order.dialects:
                _write_graph(source, graph, order, "fused", say)
            reference = Reference(source, order.held_out, scratch, lambda d, n: say("quality", d, n))
            quality = reference.measure(graph) | _method(order)
        plan = _compile(source, work, order, order.plan, say) if order.plan else None
    for companion in COMPANIONS:
        if (source.folder / companion).is_file():
            shutil.copyfile(source.folder / companion, work / companion)
    say("files", 0, 1)
    files = {path.name: FileEntry.of(path) for path in sorted(work.iterdir())}
    manifest = _manifest(source, order, plan, fingerprint, files).model_copy(update={"quality": quality})
    manifest.save(work)
    say("files", 1, 1)
    return manifest


def _solve(source: Checkpoint, scratch: Path, order: Order, say: Progress) -> Order:
    """Weights solved for the calibration text; embedding and head in 4 bits where that costs little."""
    text = order.calibration
    solution = calibrate(source, order.recipe, text, scratch, lambda d, n: say("calibration", d, n))
    order = replace(order, recipe=replace(order.recipe, solution=solution))
    if order.recipe.precision != "int4":
        return order
    judged = sample(text, ENDS)
    reference = Reference(source, judged, scratch, lambda d, n: say("embedding and head", d, n))
    losses = {}
    for bits in (4, 8):
        candidate = replace(order, recipe=replace(order.recipe, ends_bits=bits))
        _write_graph(source, scratch / FILES["fused"], candidate, "fused", _quiet)
        losses[bits] = reference.measure(scratch / FILES["fused"])["kl_mean"]
    bits = 4 if losses[4] <= ENDS_TOLERANCE * losses[8] else 8
    return replace(order, recipe=replace(order.recipe, ends_bits=bits))


def _method(order: Order) -> dict[str, Any]:
    solved = order.recipe.solution is not None
    return {
        "method": "gptq" if solved else "rounding",
        "calibration_tokens": sum(map(len, order.calibration)) if solved else 0,
        "embedding_and_head_bits": {"fp32": 32, "fp8": 8, "int8": 8}.get(
            order.recipe.precision, order.recipe.ends_bits
        ),
    }


def _write_graph(source: Checkpoint, path: Path, order: Order, kind: str, say: Progress) -> None:
    dialect = PLAN_DIALECT if kind == "plan" else DIALECTS[kind]
    with GraphBuilder(path) as builder:
        writer = dialect(builder, source.parameters, source.tensors, order.recipe)
        if kind == "plan" and order.plan:
            writer.capacity = order.plan.capacity
        write_model(writer, lambda done, total: say(f"graph ({kind})", done, total))
        builder.save()


def _compile(source: Checkpoint, work: Path, order: Order, options: PlanOptions, say: Progress) -> Plan:
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
