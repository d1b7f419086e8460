"""Which weight is stored how: the choice of bits and block, and where quantized weights come from."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from engines.build.parameters import Mixture
from engines.build.quantize import Format, Quantized, block_for, round_to_nearest
from engines.build.weights import Matrix, Source
from engines.manifest import Precision

Role = Literal["linear", "expert", "embedding", "head"]


class Solution:
    """Weights quantized ahead of writing, by matrix name, kept as files of a scratch folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._forms: dict[str, Format] = {}

    def keep(self, matrix: Matrix, answer: Quantized) -> None:
        self._forms[matrix.name] = Format(answer.bits, answer.block)
        for part in ("codes", "scales"):
            np.save(self._folder / f"{matrix.name}.{part}.npy", getattr(answer, part))

    def find(self, matrix: Matrix, form: Format) -> Quantized | None:
        """The answer for this matrix in this format, if there is one."""
        if self._forms.get(matrix.name) != form:
            return None
        codes, scales = (np.load(self._folder / f"{matrix.name}.{p}.npy") for p in ("codes", "scales"))
        return Quantized(codes, scales, form.bits, form.block)


@dataclass(frozen=True)
class Recipe:
    """`block` is used where it divides the input size, smaller ones elsewhere.

    ends_bits: of embedding and head in an int4 model. solution: weights quantized ahead, with calibration.
    """

    precision: Precision
    block: int = 128
    ends_bits: int = 8
    solution: Solution | None = field(default=None, repr=False, compare=False)

    def format(self, matrix: Matrix, role: Role) -> Format | None:
        """None: the weight stays in floating point."""
        block = block_for(matrix.shape[1], self.block)
        if self.precision == "fp32" or block is None:
            return None
        wide = self.precision == "int8"
        return Format(8 if wide else self.ends_bits if role in ("embedding", "head") else 4, block)

    def expert_format(self, mixture: Mixture) -> Format | None:
        """One format for all experts of a layer, both products."""
        expert = mixture.experts[0]
        forms = [self.format(linear.weight, "expert") for linear in (expert.gate_up, expert.down)]
        if forms[0] is None or forms[1] is None:
            return None
        return Format(forms[0].bits, min(forms[0].block, forms[1].block))

    def quantized(self, matrix: Matrix, source: Source, form: Format) -> Iterator[Quantized]:
        """The matrix in this format, some rows at a time."""
        solved = self.solution.find(matrix, form) if self.solution else None
        if solved:
            yield solved
            return
        for rows in matrix.chunks(source):
            yield round_to_nearest(rows, form.bits, form.block)
