"""The standard dialect: operators of ONNX opset 24 only, for TensorRT and ONNX Runtime alike."""

from typing import ClassVar

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from engines.build.graph.attention import split_heads
from engines.build.graph.dialect import Dialect
from engines.build.heads import rotary_tables
from engines.build.parameters import Linear, Mixture
from engines.build.quantize import Codes, Format, pack
from engines.build.recipe import Role
from engines.build.weights import Matrix, Vector


class Standard(Dialect):
    """Explicit boolean mask (TensorRT reads is_causal as upper-left), caches appended by TensorScatter."""

    name: ClassVar[str] = "standard"

    def begin(self) -> None:
        b = self.builder
        if isinstance(self.capacity, int):
            slots = b.constant(np.arange(self.capacity))
        else:
            capacity = b.node("Squeeze", b.node("Shape", "past_key_0", start=2, end=3), b.constant([0]))
            slots = b.node("Range", b.constant(0), capacity, b.constant(1))
        # A token sees the cache up to its own position: [B, 1, T, 1] against [S].
        self._mask = b.node("LessOrEqual", slots, b.node("Unsqueeze", "position_ids", b.constant([1, 3])))
        tables = rotary_tables(self.parameters.config, self.parameters.layout.rotary_dims)
        names = ("rotary.cos", "rotary.sin")
        self._tables = [self._float(name, [table]) for name, table in zip(names, tables, strict=True)]

    def embed(self, input_ids: str) -> str:
        b, matrix = self.builder, self.parameters.embedding
        form = self.recipe.format(matrix, "embedding")
        if form is None or self.dtype != "float32":
            table = b.weight(
                matrix.name, self.dtype, matrix.shape, map(self.cast, matrix.chunks(self.source))
            )
            return b.node("Gather", table, input_ids, axis=0)
        pieces = list(self.recipe.quantized(matrix, self.source, form))
        codes = np.concatenate([piece.codes for piece in pieces]).reshape(matrix.shape[0], -1, form.block)
        table = b.weight(f"{matrix.name}.table", "int8", codes.shape, [codes])
        scales = np.concatenate([piece.scales for piece in pieces])[..., None]
        scale = b.weight(f"{matrix.name}.table_scales", "float32", scales.shape, [scales])
        rows = b.node("Cast", b.node("Gather", table, input_ids, axis=0), to=1)
        rows = b.node("Mul", rows, b.node("Gather", scale, input_ids, axis=0))
        return b.node("Reshape", rows, b.constant([0, 0, matrix.shape[1]]))

    def head(self, hidden: str) -> str:
        b, head = self.builder, self.parameters.head
        matrix = head.weight if head else self.parameters.embedding
        role: Role = "head" if head else "embedding"
        form = self.recipe.format(matrix, role)
        if head or form:
            logits = b.node("MatMul", hidden, self._columns(matrix, role))
        else:
            flat = b.node("Reshape", hidden, b.constant([-1, matrix.shape[1]]))
            shape = b.node("Concat", b.node("Shape", hidden, end=2), b.constant([matrix.shape[0]]), axis=0)
            logits = b.node("Reshape", b.node("Gemm", flat, matrix.name, transB=1), shape)
        return logits if self.dtype == "float32" else b.node("Cast", logits, to=1)

    def linear(self, x: str, linear: Linear) -> str:
        form = self.recipe.format(linear.weight, "linear")
        if form and form.floating:
            product = self.float8_product(x, linear.weight, form)
        else:
            product = self.builder.node("MatMul", x, self._columns(linear.weight, "linear"))
        return self.builder.node("Add", product, self.vector(linear.bias)) if linear.bias else product

    def norm(self, x: str, weight: Vector, epsilon: float) -> str:
        return self.builder.node("RMSNormalization", x, self.vector(weight), axis=-1, epsilon=epsilon)

    def add_norm(self, x: str, residual: str, weight: Vector, epsilon: float) -> tuple[str, str]:
        total = self.builder.node("Add", x, residual)
        return self.norm(total, weight, epsilon), total

    def attend_packed(self, qkv: str, layer: int, scale: float) -> str:
        query, key, value = split_heads(self, qkv)
        return self.attend(query, key, value, layer, scale)

    def attend(self, query: str, key: str, value: str, layer: int, scale: float) -> str:
        b, config = self.builder, self.parameters.config
        query = self._rotated(self._heads(query, config.heads))
        news = self._rotated(self._heads(key, config.kv_heads)), self._heads(value, config.kv_heads)
        caches = [
            b.nodes(
                "TensorScatter",
                [f"past_{kind}_{layer}", new, "write_index"],
                [f"present_{kind}_{layer}"],
                axis=2,
            )[0]
            for kind, new in zip(("key", "value"), news, strict=True)
        ]
        answer = b.node("Attention", query, *caches, self._mask, scale=scale)
        stacked = b.node("Transpose", answer, perm=[0, 2, 1, 3])
        return b.node("Reshape", stacked, b.constant([0, 0, config.heads * self.parameters.layout.width]))

    def gate(self, gate_up: str, width: int) -> str:
        b = self.builder
        gate, up = b.nodes("Split", [gate_up, b.constant([width, width])], 2, axis=-1)
        return b.node("Mul", b.node("Mul", gate, b.node("Sigmoid", gate)), up)

    def mix(self, x: str, weights: str, mixture: Mixture) -> str:
        """Every expert answers every token in one batched product; the unchosen count nothing.

        Of the forms TensorRT-RTX 1.7.1 was asked to compile (bfloat16, int4), this one reads the weights of
        all E experts in a step, however many rows it has, and computes E / k times what k experts need.

        - Gathering the k chosen experts of N rows. Quantized constants may feed nothing but DequantizeLinear,
          so it needs a second copy of them as int32 words, unpacked by Div and Mod into bfloat16 in memory:
          the traffic of 9 k N experts. With k = 4 of E = 64 that is less for one row only, 9 times as much at
          16, and out of the question for prompts. Gathering what has been dequantized dequantizes everything.
        - One If per expert: takes twice the plan (170 against 80 MB at 64 experts) and three times as long to
          compile, and no step with an If can be captured as a CUDA graph. The latter is also true of one If
          between gathering and this.
        - NonZero, to compute just the chosen pairs (on ONNX Runtime 6 to 13 times faster than this): refused.
        - TensorRT's own MoE layer: read, but compiled for compute capability 10 and 11 only. The one to take
          when it covers more.
        """
        b = self.builder
        form = self.recipe.expert_format(mixture)
        gate_up = self._experts([expert.gate_up.weight for expert in mixture.experts], form)
        down = self._experts([expert.down.weight for expert in mixture.experts], form)
        inner = self.gate(b.node("MatMul", x, gate_up), mixture.experts[0].down.weight.shape[1])
        answers = b.node("MatMul", inner, down)
        shares = b.node("Unsqueeze", b.node("Transpose", weights, perm=[1, 0]), b.constant([2]))
        if self.dtype != "float32":
            shares = b.node("CastLike", shares, answers)
        return b.node("ReduceSum", b.node("Mul", answers, shares), b.constant([0]), keepdims=0)

    def cast(self, values: NDArray[np.float32]) -> NDArray[np.generic]:
        return values if self.dtype == "float32" else values.astype(ml_dtypes.bfloat16)

    def _heads(self, x: str, heads: int) -> str:
        """[B, T, heads * width] to [B, heads, T, width]."""
        b = self.builder
        split = b.node("Reshape", x, b.constant([0, 0, heads, self.parameters.layout.width]))
        return b.node("Transpose", split, perm=[0, 2, 1, 3])

    def _rotated(self, heads: str) -> str:
        layout = self.parameters.layout
        dims = 0 if layout.rotary_dims == layout.width else layout.rotary_dims
        inputs = [heads, *self._tables, "position_ids"]
        return self.builder.node("RotaryEmbedding", *inputs, interleaved=1, rotary_embedding_dim=dims)

    def _float(self, name: str, chunks: list[NDArray[np.float32]]) -> str:
        return self.builder.weight(name, self.dtype, chunks[0].shape, map(self.cast, chunks))

    def _columns(self, matrix: Matrix, role: Role) -> str:
        """The weight as [K, N], dequantized in blocks along K where the recipe says so."""
        form = self.recipe.format(matrix, role)
        if form is None:
            return self._float(f"{matrix.name}.transposed", [self.read(matrix).T])
        codes, scales = self.columns(matrix, form)
        return self._dequantized(matrix.name, codes, scales, form)

    def _experts(self, matrices: list[Matrix], form: Format | None) -> str:
        """The experts' weights as [experts, K, N]."""
        rows, columns = matrices[0].shape
        name = f"{matrices[0].name}.experts"
        if form is None:
            chunks = (self.cast(self.read(matrix).T)[None] for matrix in matrices)
            return self.builder.weight(name, self.dtype, (len(matrices), columns, rows), chunks)
        pieces = [self.columns(matrix, form) for matrix in matrices]
        codes, scales = (np.stack(part) for part in zip(*pieces, strict=True))
        return self._dequantized(name, codes, scales, form)

    def _dequantized(self, name: str, codes: Codes, scales: NDArray[np.float32], form: Format) -> str:
        b = self.builder
        packed = pack(np.ascontiguousarray(codes).reshape(-1), form, signed=True)
        weight = b.weight(f"{name}.codes", f"int{form.bits}", codes.shape, [packed])
        if scales.ndim == 2 and len(scales) == 1:
            scale = b.weight(f"{name}.scales", self.dtype, scales.shape[1:], [self.cast(scales)])
            return b.node("DequantizeLinear", weight, scale, axis=1)
        scale = b.weight(f"{name}.scales", self.dtype, scales.shape, [self.cast(scales)])
        return b.node("DequantizeLinear", weight, scale, axis=-2, block_size=form.block)


class StandardBFloat16(Standard):
    """The same with bfloat16 activations, weights and caches: what TensorRT compiles."""

    dtype: ClassVar[str] = "bfloat16"
