"""The fused dialect: ONNX Runtime's own operators (domain com.microsoft), fastest on the CPU."""

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from engines.build.graph.builder import MICROSOFT
from engines.build.graph.dialect import Dialect
from engines.build.graph.fused_experts import INT8_ACTIVATIONS, mix
from engines.build.heads import rotary_tables
from engines.build.parameters import Linear, Mixture
from engines.build.quantize import BLOCKS, Format, block_for, pack
from engines.build.recipe import Role
from engines.build.weights import Matrix, Vector


class Fused(Dialect):
    """GroupQueryAttention with rotary inside, MatMulNBits, GatherBlockQuantized, MoE and QMoE."""

    name: ClassVar[str] = "fused"

    def begin(self) -> None:
        b, one = self.builder, self.builder.constant(1)
        ends = b.node("Add", "write_index", "lengths")
        self._last = b.node("Cast", b.node("Sub", ends, one), to=6)
        self._total = b.node("Cast", b.node("ReduceMax", ends, keepdims=0), to=6)
        self._lengths = b.node("Cast", "lengths", to=6)
        tables = rotary_tables(self.parameters.config, self.parameters.layout.rotary_dims)
        self._tables = [
            b.weight(f"rotary.{n}", "float32", t.shape, [t])
            for n, t in zip(("cos", "sin"), tables, strict=True)
        ]

    def embed(self, input_ids: str) -> str:
        matrix = self.parameters.embedding
        form = self.recipe.format(matrix, "embedding")
        if form is None:
            return self.builder.node("Gather", self._plain(matrix), input_ids, axis=0)
        rows, columns = matrix.shape
        table, scales = self._blocks(matrix, form, (rows, columns * form.bits // 8))
        attrs = {"bits": form.bits, "block_size": _block(form), "gather_axis": 0, "quantize_axis": 1}
        return self.builder.node("GatherBlockQuantized", table, input_ids, scales, domain=MICROSOFT, **attrs)

    def head(self, hidden: str) -> str:
        if self.parameters.head:
            return self._linear(hidden, self.parameters.head, "head")
        matrix, b = self.parameters.embedding, self.builder
        form = self.recipe.format(matrix, "embedding")
        if form:
            shared = b.alias(f"{matrix.name}.head", f"{matrix.name}.blocks", _blocked(matrix, form))
            return self._matmul_blocks(hidden, matrix, form, [shared, f"{matrix.name}.scales"])
        flat = b.node("Reshape", hidden, b.constant([-1, matrix.shape[1]]))
        shape = b.node("Concat", b.node("Shape", hidden, end=2), b.constant([matrix.shape[0]]), axis=0)
        return b.node("Reshape", b.node("Gemm", flat, matrix.name, transB=1), shape)

    def linear(self, x: str, linear: Linear) -> str:
        return self._linear(x, linear, "linear")

    def norm(self, x: str, weight: Vector, epsilon: float) -> str:
        return self.builder.node(
            "SimplifiedLayerNormalization", x, self.vector(weight), axis=-1, epsilon=epsilon
        )

    def add_norm(self, x: str, residual: str, weight: Vector, epsilon: float) -> tuple[str, str]:
        inputs = [x, residual, self.vector(weight)]
        name = self.builder.nodes("SkipSimplifiedLayerNormalization", inputs, 4, MICROSOFT, epsilon=epsilon)
        return name[0], name[3]

    def attend_packed(self, qkv: str, layer: int, scale: float) -> str:
        return self.attend(qkv, "", "", layer, scale)

    def attend(self, query: str, key: str, value: str, layer: int, scale: float) -> str:
        config = self.parameters.config
        inputs = [
            query,
            key,
            value,
            f"past_key_{layer}",
            f"past_value_{layer}",
            self._last,
            self._total,
            *self._tables,
        ]
        outputs = [f"attention_{layer}", f"present_key_{layer}", f"present_value_{layer}"]
        attrs: dict[str, Any] = {"num_heads": config.heads, "kv_num_heads": config.kv_heads, "scale": scale}
        rotary = {"do_rotary": 1, "rotary_interleaved": 1}
        unused = [""] * 7  # position_ids to k_norm_weight
        inputs += [*unused, self._lengths]
        return self.builder.nodes("GroupQueryAttention", inputs, outputs, MICROSOFT, **attrs, **rotary)[0]

    def gate(self, gate_up: str, width: int) -> str:
        b = self.builder
        gate, up = b.nodes("Split", [gate_up, b.constant([width, width])], 2, axis=-1)
        return b.node("Mul", b.node("QuickGelu", gate, domain=MICROSOFT, alpha=1.0), up)

    def mix(self, x: str, weights: str, mixture: Mixture) -> str:
        return mix(self, x, weights, mixture)

    def _linear(self, x: str, linear: Linear, role: Role) -> str:
        b, matrix = self.builder, linear.weight
        form = self.recipe.format(matrix, role)
        if form and not form.floating:
            blocks = self._blocks(matrix, form, _blocked(matrix, form))
            return self._matmul_blocks(x, matrix, form, blocks, linear.bias)
        if form:
            product = self.float8_product(x, matrix, form)
        else:
            rows, columns = matrix.shape
            weight = b.weight(matrix.name, "float32", (columns, rows), [self.read(matrix).T])
            product = b.node("MatMul", x, weight)
        return b.node("Add", product, self.vector(linear.bias)) if linear.bias else product

    def _matmul_blocks(
        self, x: str, matrix: Matrix, form: Format, weight: list[str], bias: Vector | None = None
    ) -> str:
        rows, columns = matrix.shape
        attrs = {"K": columns, "N": rows, "bits": form.bits, "block_size": _block(form)}
        attrs["accuracy_level"] = INT8_ACTIVATIONS
        inputs = [x, *weight, *(["", "", self.vector(bias)] if bias else [])]
        return self.builder.node("MatMulNBits", *inputs, domain=MICROSOFT, **attrs)

    def _plain(self, matrix: Matrix) -> str:
        return self.builder.weight(matrix.name, "float32", matrix.shape, matrix.chunks(self.source))

    def _blocks(self, matrix: Matrix, form: Format, shape: tuple[int, ...]) -> list[str]:
        """Codes with zero point 2^(bits-1) as uint8 of `shape`, and scales float32 [N, K / block].

        The operators know no blocks beyond 128: the scale of a whole row is repeated.
        """
        scales: list[NDArray[np.float32]] = []
        block = _block(form)

        def codes() -> Iterator[NDArray[np.uint8]]:
            for piece in self.recipe.quantized(matrix, self.source, form):
                scales.append(np.repeat(piece.scales, form.block // block, axis=1))
                yield pack(piece.codes, form, signed=False)

        data = self.builder.weight(f"{matrix.name}.blocks", "uint8", shape, codes())
        size = (matrix.shape[0], matrix.shape[1] // block)
        return [data, self.builder.weight(f"{matrix.name}.scales", "float32", size, [np.concatenate(scales)])]


def _blocked(matrix: Matrix, form: Format) -> tuple[int, int, int]:
    """Shape of MatMulNBits' codes: [N, K / block, bytes per block]."""
    rows, columns = matrix.shape
    return rows, columns // _block(form), _block(form) * form.bits // 8


def _block(form: Format) -> int:
    """Of the operators, a divisor of the format's."""
    block = block_for(form.block, max(BLOCKS))
    assert block is not None
    return block
