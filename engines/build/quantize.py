"""Symmetric weights of few bits in blocks along the input axis."""

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

BLOCKS = (128, 64, 32, 16)
_CACHED = 1 << 18  # weights worked on together: 1 MiB stays in a core's cache
SHARES = (1.0, 0.94, 0.875, 0.81, 0.75, 0.69)
"""Fractions of the clip-free scale that are tried; 0.875 puts the largest weight at -8."""

E4M3_LARGEST = 448.0
Codes = NDArray[Any]
"""int8, or float8_e4m3fn."""


@dataclass(frozen=True)
class Format:
    """Bits per weight and weights per scale; `floating` means E4M3 (8 bits) instead of integers."""

    bits: int
    block: int
    floating: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the codes; 4 bits take a byte each until they are packed."""
        return np.dtype(ml_dtypes.float8_e4m3fn if self.floating else np.int8)

    @property
    def largest(self) -> float:
        """The largest code whose negative is a code, too."""
        return E4M3_LARGEST if self.floating else 2 ** (self.bits - 1) - 1

    def encode(self, values: NDArray[np.floating]) -> Codes:
        """The nearest codes of values in units of their scale."""
        if self.floating:
            codes: Codes = np.clip(values, -self.largest, self.largest).astype(self.dtype)
        else:
            codes = np.clip(np.rint(values), -self.largest - 1, self.largest).astype(np.int8)
        return codes


@dataclass(frozen=True, eq=False)
class Quantized:
    """W ≈ codes * scales, codes [N, K] of `form.dtype`, scales float32 [N, K / block]."""

    codes: Codes
    scales: NDArray[np.float32]
    form: Format

    def dequantized(self) -> NDArray[np.float32]:
        """float32 [N, K]."""
        count, width = self.codes.shape
        blocks = self.codes.reshape(count, -1, self.form.block).astype(np.float32)
        return (blocks * self.scales[..., None]).reshape(count, width)


def block_for(width: int, wanted: int) -> int | None:
    """The largest block up to `wanted` that divides K = `width`; None: it cannot be cut into blocks."""
    return next((block for block in BLOCKS if block <= wanted and width % block == 0), None)


def round_to_nearest(rows: NDArray[np.float32], form: Format) -> Quantized:
    """Rounding of [N, K] with the scale of least squared error per block."""
    count, width = rows.shape
    codes = np.empty((count, width), form.dtype)
    scales = np.empty((count, width // form.block), np.float32)
    step = max(_CACHED // width, 1)
    for begin in range(0, count, step):
        piece = slice(begin, begin + step)
        blocks = rows[piece].reshape(-1, width // form.block, form.block)
        scales[piece] = best_scales(blocks, form)
        codes[piece] = form.encode(blocks / scales[piece][..., None]).reshape(-1, width)
    return Quantized(codes, scales, form)


def full_scales(blocks: NDArray[np.float32], form: Format) -> NDArray[np.float32]:
    """One scale per block (last axis) that clips nothing: largest magnitude over the largest code."""
    largest = np.abs(blocks).max(axis=-1)
    scales: NDArray[np.float32] = np.where(largest > 0, largest / form.largest, 1).astype(np.float32)
    return scales


def best_scales(
    blocks: NDArray[np.float32], form: Format, importance: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """One scale per block (last axis) of least squared error, inputs weighed by `importance` [..., block].

    With 4 bits, clipping the largest weights often pays; with 8 it does not, so nothing is searched.
    """
    best = full = full_scales(blocks, form)
    if form.bits > 4:
        return best
    lowest = np.full(full.shape, np.inf, np.float32)
    errors = np.empty(blocks.shape, np.float32)  # reused: this loop is most of a build's time
    for share in SHARES:
        scales = full * np.float32(share)
        np.multiply(blocks, (1 / scales)[..., None], out=errors)
        np.clip(np.rint(errors, out=errors), -form.largest - 1, form.largest, out=errors)
        errors *= scales[..., None]
        errors -= blocks
        weighed = errors if importance is None else errors * importance
        loss = np.einsum("...i,...i->...", errors, weighed)
        better = loss < lowest
        best, lowest = np.where(better, scales, best), np.where(better, loss, lowest)
    return best


def pack(codes: Codes, form: Format, *, signed: bool) -> NDArray[np.uint8]:
    """Bytes of the codes in order, two of 4 bits per byte with the low half first.

    `signed` keeps two's complement (ONNX INT4, INT8) and floats as they are; otherwise 2^(bits-1) is added,
    the zero point MatMulNBits and GatherBlockQuantized assume. The last axis shrinks by 8 / bits; it must be
    even.
    """
    raw: NDArray[Any] = codes.view(np.uint8)
    if not signed:
        raw = raw + np.uint8(1 << (form.bits - 1))
    if form.bits == 8:
        return raw
    return (raw[..., ::2] & np.uint8(0xF)) | (raw[..., 1::2] << np.uint8(4))
