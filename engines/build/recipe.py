"""Which weight is stored how: the choice of bits and block, and where quantized weights come from."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from engines.build.quantize import Format, Quantized, block_for, round_to_nearest
from engines.build.weights import Matrix, Source
from engines.manifest import Precision

Role = Literal["linear", "expert", "embedding", "head"]


@dataclass(frozen=True)
class Recipe:
    """`block` is used where it divides the input size, smaller ones elsewhere."""

    precision: Precision
    block: int = 128
    ends_bits: int = 8  # embedding and head

    def format(self, matrix: Matrix, role: Role) -> Format | None:
        """None: the weight stays in floating point."""
        block = block_for(matrix.shape[1], self.block)
        if self.precision == "fp32" or block is None:
            return None
        wide = self.precision == "int8"
        return Format(8 if wide else self.ends_bits if role in ("embedding", "head") else 4, block)

    def quantized(self, matrix: Matrix, source: Source, form: Format) -> Iterator[Quantized]:
        """The matrix in this format, some rows at a time."""
        for rows in matrix.chunks(source):
            yield round_to_nearest(rows, form.bits, form.block)
