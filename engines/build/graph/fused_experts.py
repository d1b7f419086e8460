"""Mixture of experts in the fused dialect: the operators MoE (float) and QMoE (integer weights)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.build.graph.builder import MICROSOFT
from engines.build.graph.dialect import Dialect
from engines.build.parameters import Mixture
from engines.build.quantize import Format, pack
from engines.build.weights import Matrix

Pair = tuple[list[Matrix], list[Matrix]]
INT8_ACTIVATIONS = 4  # accuracy_level: integer dot products, activations rounded block by block


def mix(d: Dialect, x: str, weights: str, mixture: Mixture) -> str:
    """`Dialect.mix`; both operators compute only the chosen experts."""
    gate_up = [expert.gate_up.weight for expert in mixture.experts]
    down = [expert.down.weight for expert in mixture.experts]
    form = d.recipe.expert_format(mixture)
    experts = d.parameters.config.experts
    assert experts is not None
    attrs: dict[str, Any] = {"k": experts.per_token, "activation_type": "swiglu", "swiglu_fusion": 1}
    attrs |= {"activation_alpha": 1.0, "activation_beta": 0.0}
    if form:
        attrs |= {"expert_weight_bits": form.bits, "block_size": form.block}
        return _blocks(d, x, weights, (gate_up, down), attrs)
    return _plain(d, x, weights, (gate_up, down), attrs)


def _plain(d: Dialect, x: str, weights: str, pair: Pair, attrs: dict[str, Any]) -> str:
    """MoE weighs by the softmax of what it is given: it gets logarithms, and their sum comes after."""
    b = d.builder
    inputs = [x, b.node("Log", b.node("Max", weights, b.constant(1e-30, "float32")))]
    for matrices, gated in zip(pair, (True, False), strict=True):
        rows = (_interleaved(d.read(matrix)) if gated else d.read(matrix) for matrix in matrices)
        shape = (len(matrices), *matrices[0].shape)
        inputs += [b.weight(f"{matrices[0].name}.experts", "float32", shape, rows), ""]
    mixed = b.node("MoE", *inputs[:-1], domain=MICROSOFT, normalize_routing_weights=1, **attrs)
    return b.node("Mul", mixed, b.node("ReduceSum", weights, b.constant([-1]), keepdims=1))


def _blocks(d: Dialect, x: str, weights: str, pair: Pair, attrs: dict[str, Any]) -> str:
    """QMoE chooses by one input and weighs by another: here both are the weights."""
    form = Format(attrs["expert_weight_bits"], attrs["block_size"])
    inputs = [x, weights]
    for matrices, gated in zip(pair, (True, False), strict=True):
        inputs += [*_packed(d, matrices, form, gated=gated), ""]
    unused = [""] * 6  # third product, zero points
    attrs = attrs | {"accuracy_level": INT8_ACTIVATIONS, "weights_prepacked": 0}
    return d.builder.node("QMoE", *inputs, *unused, weights, domain=MICROSOFT, **attrs)


def _packed(d: Dialect, matrices: list[Matrix], form: Format, *, gated: bool) -> list[str]:
    """Codes uint8 [experts, N, bytes] and scales float32 [experts, N, K / block]."""
    rows, columns = matrices[0].shape
    scales: list[NDArray[np.float32]] = []

    def codes() -> Iterator[NDArray[np.uint8]]:
        for matrix in matrices:
            pieces = list(d.recipe.quantized(matrix, d.source, form))
            code = np.concatenate([piece.codes for piece in pieces])
            scale = np.concatenate([piece.scales for piece in pieces])
            scales.append(_interleaved(scale) if gated else scale)
            yield pack(_interleaved(code) if gated else code, form, signed=False)

    name = f"{matrices[0].name}.experts"
    shape = (len(matrices), rows, columns * form.bits // 8)
    data = d.builder.weight(name, "uint8", shape, codes())
    size = (len(matrices), rows, columns // form.block)
    return [data, d.builder.weight(f"{name}.scales", "float32", size, [np.stack(scales)])]


def _interleaved(rows: NDArray[Any]) -> NDArray[Any]:
    """Rows gate 0, up 0, gate 1, up 1 … of gate rows followed by up rows."""
    return rows.reshape(2, -1, *rows.shape[1:]).swapaxes(0, 1).reshape(rows.shape)
