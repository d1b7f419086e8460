"""The factory: a checkpoint folder becomes an engine folder, whole or not at all."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from engines.build.checkpoint import COMPANIONS, Checkpoint
from engines.build.graph.builder import GraphBuilder
from engines.build.graph.dialects import DIALECTS, FILES
from engines.build.graph.model import write_model
from engines.build.recipe import Recipe
from engines.errors import BuildError
from engines.manifest import Dialect, FileEntry, KVLayout, Manifest, Precision, Sizes

Progress = Callable[[str, int, int], None]
"""Called as progress(step, done, total) while a step goes on."""


def build(
    checkpoint: Path,
    out: Path,
    *,
    precision: Precision = "fp32",
    dialects: Sequence[Dialect] = ("fused",),
    progress: Progress | None = None,
    name: str | None = None,
    block: int = 128,
) -> Manifest:
    """Build the engine folder `out` from a Hugging Face folder.

    Raises CheckpointError or UnsupportedModel before anything is written. An interrupted build leaves no
    `out`; an existing `out` is replaced in one step.
    """
    say: Progress = progress or (lambda step, done, total: None)
    source = Checkpoint(checkpoint)
    if out.exists() and not (out.is_dir() and ((out / "manifest.json").is_file() or not any(out.iterdir()))):
        raise BuildError(f"{out} exists and is no engine folder; give another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        recipe = Recipe(precision, block)
        label = name or checkpoint.resolve().name
        manifest = _fill(source, work, recipe, dialects, name=label, say=say)
        _replace(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return manifest


def _fill(
    source: Checkpoint, work: Path, recipe: Recipe, dialects: Sequence[Dialect], *, name: str, say: Progress
) -> Manifest:
    for kind in dialects:
        with GraphBuilder(work / FILES[kind]) as builder:
            write_model(DIALECTS[kind](builder, source.parameters, source.tensors, recipe))
            builder.save()
    for companion in COMPANIONS:
        if (source.folder / companion).is_file():
            shutil.copyfile(source.folder / companion, work / companion)
    config, layout = source.config, source.parameters.layout
    files = {path.name: FileEntry.of(path) for path in sorted(work.iterdir())}
    manifest = Manifest(
        name=name,
        family=config.family,
        precision=recipe.precision,
        block=None if recipe.precision == "fp32" else recipe.block,
        dtype="float32",
        dialect=dialects[0],
        graphs={kind: FILES[kind] for kind in dialects},
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
        kv=KVLayout(shape=("slots", config.kv_heads, "capacity", layout.width)),
        eos_token_ids=list(config.eos_token_ids),
        tokenizer_sha256=files["tokenizer.json"].sha256 if "tokenizer.json" in files else None,
        source_sha256=_fingerprint(source, recipe, dialects),
        builder={package: version(package) for package in ("onnx", "numpy")},
        files=files,
    )
    manifest.save(work)
    return manifest


def _fingerprint(source: Checkpoint, recipe: Recipe, dialects: Sequence[Dialect]) -> str:
    digest = hashlib.sha256(repr((recipe, tuple(dialects))).encode())
    for path in source.files():
        digest.update(f"{path.name}:{FileEntry.of(path).sha256}".encode())
    return digest.hexdigest()


def _replace(work: Path, out: Path) -> None:
    """Put `work` where `out` is."""
    work.chmod(0o755)
    if out.exists():
        old = work.with_name(work.name + ".old")
        out.rename(old)
        work.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    else:
        work.rename(out)
