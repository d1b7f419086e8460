"""How much memory an engine will need, from config and tensor shapes alone: nothing is read or written."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.build.checkpoint import Checkpoint
from engines.build.parameters import Linear, Mixture, Parameters
from engines.build.quantize import Format
from engines.build.recipe import Recipe
from engines.build.weights import Matrix, Vector
from engines.manifest import Precision

_SMALLEST_CONTEXT = 512


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on the device, and which slots × context fit into `device_bytes`.

    workspace_bytes is an estimate: the widest activations of one step, three times over.
    """

    name: str
    family: str
    precision: Precision
    parameters: int
    weights_bytes: int
    kv_bytes_per_token: int
    workspace_bytes: int
    device_bytes: int | None
    fits: tuple[tuple[int, int], ...]
    """(context in tokens, largest number of slots), smallest context first; empty: no context fits."""

    def kv_bytes_per_slot(self, context: int) -> int:
        return self.kv_bytes_per_token * context

    def total_bytes(self, slots: int, context: int) -> int:
        return self.weights_bytes + self.workspace_bytes + slots * self.kv_bytes_per_slot(context)


def memory_plan(
    checkpoint: Path,
    *,
    precision: Precision = "fp32",
    block: int = 128,
    plan: bool = False,
    chunk: int = 256,
    device_bytes: int | None = None,
) -> MemoryPlan:
    """What `build` with these options would need at run time; `plan`: as a TensorRT plan (bfloat16).

    Raises CheckpointError, UnsupportedModel or, for a precision or block that cannot be built, BuildError as
    `build` does.
    """
    source = Checkpoint(checkpoint)
    parameters, recipe, width = source.parameters, Recipe(precision, block, whole_rows=plan), 2 if plan else 4
    config = source.config
    weights = sum(_bytes(item, form, width) for item, form in _weights(parameters, recipe, plan))
    per_token = 2 * config.layers * config.kv_heads * parameters.layout.width * width
    workspace = 3 * chunk * _widest(parameters, plan) * width + config.vocab_size * 4
    free = (device_bytes or 0) - weights - workspace
    fits = [(context, free // (per_token * context)) for context in _contexts(config.context)]
    return MemoryPlan(
        name=checkpoint.resolve().name,
        family=config.family,
        precision=precision,
        parameters=parameters.count(),
        weights_bytes=weights,
        kv_bytes_per_token=per_token,
        workspace_bytes=workspace,
        device_bytes=device_bytes,
        fits=tuple((context, slots) for context, slots in fits if slots > 0),
    )


def _contexts(most: int) -> list[int]:
    """Powers of two below the model's context, and that."""
    sizes = []
    size = min(_SMALLEST_CONTEXT, most)
    while size < most:
        sizes.append(size)
        size *= 2
    return [*sizes, most]


def _bytes(item: Matrix | Vector, form: Format | None, width: int) -> int:
    if isinstance(item, Vector):
        return sum(part.count for part in item.parts) * width
    rows, columns = item.shape
    if form is None:
        return rows * columns * width
    return rows * columns * form.bits // 8 + rows * columns // form.block * width


def _weights(
    parameters: Parameters, recipe: Recipe, plan: bool
) -> Iterator[tuple[Matrix | Vector, Format | None]]:
    """Every stored weight with its format."""
    embedding = parameters.embedding
    # A plan gathers rows from floats; a tied head then has the quantized matrix for itself.
    form = recipe.format(embedding, "embedding")
    yield embedding, None if plan else form
    if plan and form and parameters.head is None:
        yield embedding, form
    if parameters.head:
        yield parameters.head.weight, recipe.format(parameters.head.weight, "head")
    yield parameters.norm, None
    for layer in parameters.layers:
        yield from _layer(layer, recipe)


def _layer(value: Any, recipe: Recipe) -> Iterator[tuple[Matrix | Vector, Format | None]]:
    if isinstance(value, Mixture):
        form = recipe.expert_format(value)
        for expert in value.experts:
            yield from ((linear.weight, form) for linear in (expert.gate_up, expert.down))
        yield value.router.weight, None
        yield value.correction, None
        yield from _layer(value.shared, recipe)
    elif isinstance(value, Linear):
        yield value.weight, recipe.format(value.weight, "linear")
        yield from _layer(value.bias, recipe)
    elif isinstance(value, Vector):
        yield value, None
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _layer(getattr(value, field.name), recipe)


def _widest(parameters: Parameters, plan: bool) -> int:
    """Elements of the widest activation of one token; a plan's experts all answer every token."""
    config = parameters.config
    widths = [2 * config.intermediate, 3 * config.heads * parameters.layout.width]
    if config.experts:
        active = config.experts.routed if plan else config.experts.per_token
        widths.append(active * (2 * config.experts.intermediate + config.hidden))
    return config.hidden + max(widths)
