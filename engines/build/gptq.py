"""Error-aware rounding: GPTQ (arXiv:2210.17323) in blocks along the input axis, in numpy.

Weights are rounded one input at a time, and what rounding one loses the inputs still to come make up for,
as the second moment of the layer's inputs says. Scales are chosen per block, just before it is rounded,
to lose the least squared error weighed by that moment's diagonal.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from engines.build.quantize import Format, Quantized, best_scales

_DAMPING = 0.01  # of the mean diagonal, as in the paper
_ROWS = 512  # outputs worked on together: a block of them fits the cache of a core


def gptq(weight: NDArray[np.float32], moment: NDArray[np.float32], bits: int, block: int) -> Quantized:
    """Quantize weight [N, K] for inputs whose second moment XᵀX is `moment` [K, K].

    Inputs that are always zero count as if they had the mean variance.
    """
    rows, columns = weight.shape
    moment = moment.astype(np.float64)
    diagonal = np.diagonal(moment).copy()
    silent = diagonal <= 0
    mean = float(diagonal[~silent].mean()) if not silent.all() else 1.0
    moment[silent, silent] = mean
    moment[np.diag_indices(columns)] += _DAMPING * mean
    # Upper Cholesky factor of the inverse: row k holds how input k's error spreads over the later ones.
    spread = np.linalg.cholesky(np.linalg.inv(moment)).T.astype(np.float32)
    importance = np.diagonal(moment).astype(np.float32)
    parts = [weight[begin : begin + _ROWS] for begin in range(0, rows, _ROWS)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = list(pool.map(lambda part: _rows(part, spread, importance, Format(bits, block)), parts))
    codes, scales = (np.concatenate(piece) for piece in zip(*done, strict=True))
    return Quantized(codes, scales, bits, block)


def _rows(
    weight: NDArray[np.float32], spread: NDArray[np.float32], importance: NDArray[np.float32], form: Format
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Codes and scales of some outputs; they do not depend on the others."""
    work = np.ascontiguousarray(weight.T)  # one input's weights lie together
    columns, count = work.shape
    codes = np.empty((columns, count), np.int8)
    scales = np.empty((columns // form.block, count), np.float32)
    limit = np.float32(2 ** (form.bits - 1))
    for begin in range(0, columns, form.block):
        end = begin + form.block
        local, errors = work[begin:end], np.empty((form.block, count), np.float32)
        scale = best_scales(local.T, form.bits, importance[begin:end])
        for k in range(form.block):
            code = np.clip(np.rint(local[k] / scale), -limit, limit - 1)
            errors[k] = (local[k] - code * scale) / spread[begin + k, begin + k]
            codes[begin + k] = code
            local[k + 1 :] -= spread[begin + k, begin + k + 1 : end, None] * errors[k]
        scales[begin // form.block] = scale
        work[end:] -= spread[begin:end, end:].T @ errors
    return codes.T, scales.T
