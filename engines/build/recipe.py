"""Which weight is stored how: the choice of bits and block, and where quantized weights come from."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from engines.build.parameters import Mixture
from engines.build.quantize import BLOCKS, Format, Quantized, block_for, round_to_nearest
from engines.build.weights import Matrix, Source
from engines.errors import BuildError
from engines.manifest import Precision

Role = Literal["linear", "expert", "embedding", "head"]

_HEADROOM = 2
"""Over the largest input seen while calibrating; a float loses nothing by it but the smallest values."""


class Solution:
    """Weights quantized ahead of writing, by matrix name, kept as files of a scratch folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._forms: dict[str, Format] = {}
        self._peaks: dict[str, float] = {}

    def keep(self, matrix: Matrix, answer: Quantized, peak: float) -> None:
        """`peak`: the largest magnitude of the matrix's inputs."""
        self._forms[matrix.name], self._peaks[matrix.name] = answer.form, peak
        np.save(self._file(matrix, "codes"), answer.codes.view(np.uint8))
        np.save(self._file(matrix, "scales"), answer.scales)

    def find(self, matrix: Matrix, form: Format) -> Quantized | None:
        """The answer for this matrix in this format, if there is one."""
        if self._forms.get(matrix.name) != form:
            return None
        codes, scales = (np.load(self._file(matrix, part)) for part in ("codes", "scales"))
        return Quantized(codes.view(form.dtype), scales, form)

    def input_scale(self, matrix: Matrix, form: Format) -> float:
        """Of the matrix's inputs, where they are rounded to the same numbers as the weights."""
        return max(_HEADROOM * self._peaks[matrix.name] / form.largest, float(np.finfo(np.float32).tiny))

    def _file(self, matrix: Matrix, part: str) -> Path:
        return self._folder / f"{matrix.name}.{part}.npy"


@dataclass(frozen=True)
class Recipe:
    """`block` is used where it divides the input size, smaller ones elsewhere.

    whole_rows: 8-bit weights have one scale per output instead of one per block. TensorRT multiplies by such
    weights as they are; 8-bit blocks it would dequantize into memory first (4-bit blocks it does not).
    ends_bits: of embedding and head in an int4 model. solution: weights quantized ahead, with calibration.
    """

    precision: Precision
    block: int = 128
    whole_rows: bool = False
    ends_bits: int = 8
    solution: Solution | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises BuildError for what cannot be stored, whatever the model."""
        if self.precision not in get_args(Precision):
            raise BuildError(f"precision {self.precision!r} is none of {', '.join(get_args(Precision))}")
        if self.block not in BLOCKS:
            raise BuildError(f"block {self.block} is none of {', '.join(map(str, BLOCKS))}")
        if self.precision == "fp8" and not self.whole_rows:
            raise BuildError(
                "fp8 is for TensorRT plans alone; for ONNX Runtime take int8, as small and closer to fp32"
            )

    def format(self, matrix: Matrix, role: Role) -> Format | None:
        """None: the weight stays in floating point.

        fp8 is for products of whole rows; experts, which are one stacked product, and the ends are int8.
        """
        width = matrix.shape[1]
        block = block_for(width, self.block)
        if self.precision == "fp32" or block is None:
            return None
        if self.precision == "fp8" and role == "linear":
            return Format(8, width, floating=True)
        ends = role in ("embedding", "head")
        bits = 8 if self.precision != "int4" else self.ends_bits if ends else 4
        return Format(bits, width if bits == 8 and self.whole_rows and role != "expert" else block)

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
            yield round_to_nearest(rows, form)
