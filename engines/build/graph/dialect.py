"""The operations a model is described in; each dialect writes them with its own operators."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from engines.build.graph.builder import GraphBuilder
from engines.build.parameters import Linear, Mixture, Parameters
from engines.build.quantize import Codes, Format
from engines.build.recipe import Recipe
from engines.build.weights import Matrix, Source, Vector


class Dialect(ABC):
    """Values are names; hidden states are [B, T, hidden], heads are stacked on the last axis."""

    name: ClassVar[str]
    dtype: ClassVar[str] = "float32"
    capacity: int | str = "S"

    def __init__(self, builder: GraphBuilder, parameters: Parameters, source: Source, recipe: Recipe) -> None:
        """`capacity` may be set to a number afterwards: the S every cache then has."""
        self.builder, self.parameters, self.source, self.recipe = builder, parameters, source, recipe

    def read(self, matrix: Matrix) -> NDArray[np.float32]:
        return matrix.rows(self.source)

    def vector(self, vector: Vector) -> str:
        """A bias or norm weight as an initializer."""
        values = vector.values(self.source)
        return self.builder.weight(vector.name, self.dtype, values.shape, [self.cast(values)])

    def cast(self, values: NDArray[np.float32]) -> NDArray[np.generic]:
        """Into the dtype of activations."""
        return values

    def float8_product(self, x: str, matrix: Matrix, form: Format) -> str:
        """x Wᵀ of numbers in E4M3: the weight with a scale per output, the input with one in all."""
        b, solution = self.builder, self.recipe.solution
        assert solution is not None
        scale = b.constant(solution.input_scale(matrix, form), self.dtype)
        rounded = b.node("QuantizeLinear", x, scale, b.constant(0, "float8"))
        codes, scales = self.columns(matrix, form)
        weight = b.weight(f"{matrix.name}.codes", "float8", codes.shape, [codes])
        row_scales = b.weight(f"{matrix.name}.scales", self.dtype, scales.shape[1:], [self.cast(scales)])
        weight = b.node("DequantizeLinear", weight, row_scales, axis=1)
        return b.node("MatMul", b.node("DequantizeLinear", rounded, scale), weight)

    def columns(self, matrix: Matrix, form: Format) -> tuple[Codes, NDArray[np.float32]]:
        """Codes [K, N] and scales [K / block, N]."""
        pieces = list(self.recipe.quantized(matrix, self.source, form))
        codes, scales = (
            np.concatenate(parts) for parts in zip(*((p.codes, p.scales) for p in pieces), strict=True)
        )
        return codes.T, scales.T

    @abstractmethod
    def begin(self) -> None:
        """Write what all layers share: positions, masks, rotary tables."""

    @abstractmethod
    def embed(self, input_ids: str) -> str:
        """Rows of the embedding, [B, T, hidden]."""

    @abstractmethod
    def head(self, hidden: str) -> str:
        """Logits, float32 [..., vocabulary]."""

    @abstractmethod
    def linear(self, x: str, linear: Linear) -> str:
        """x Wᵀ + b over the last axis."""

    @abstractmethod
    def norm(self, x: str, weight: Vector, epsilon: float) -> str:
        """Root-mean-square norm over the last axis."""

    @abstractmethod
    def add_norm(self, x: str, residual: str, weight: Vector, epsilon: float) -> tuple[str, str]:
        """norm(x + residual) and x + residual."""

    @abstractmethod
    def attend(self, query: str, key: str, value: str, layer: int, scale: float) -> str:
        """Append key and value to the layer's cache and attend causally; [B, T, heads * width]."""

    @abstractmethod
    def attend_packed(self, qkv: str, layer: int, scale: float) -> str:
        """The same with query, key and value heads stacked in one value."""

    @abstractmethod
    def gate(self, gate_up: str, width: int) -> str:
        """silu(first half) * second half of the last axis."""

    @abstractmethod
    def mix(self, x: str, weights: str, mixture: Mixture) -> str:
        """The experts' answers to x [N, hidden], summed by `weights` float32 [N, experts] (0: not chosen)."""
