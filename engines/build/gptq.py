"""Error-aware rounding: GPTQ (arXiv:2210.17323) with one scale per block along the input axis, in numpy.

Weights are rounded one input at a time, and what rounding one loses the inputs still to come make up for, as
the second moment of the layer's inputs says. The strongest inputs come first, while most others can still
make up for them (act-order); so the blocks' scales are chosen ahead, to lose the least squared error weighed
by that moment's diagonal. Blocks stay where they are: the runtimes know no reordered ones.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from engines.build.quantize import Codes, Format, Quantized, best_scales
from engines.build.weights import Index

_DAMPING = 0.01  # of the mean diagonal, as in the paper
_ROWS = 512  # outputs worked on together, and
_PANEL = 128  # inputs: what the cache of a core holds
_SMALL = 64  # triangles inverted at once

Doubles = NDArray[np.float64]


def gptq(weight: NDArray[np.float32], moment: NDArray[np.float32], form: Format) -> Quantized:
    """Quantize weight [N, K] for inputs whose second moment XᵀX is `moment` [K, K].

    Inputs that are always zero count as if they had the mean variance. Needs two float64 [K, K] beside it.
    """
    rows = weight.shape[0]
    diagonal = np.diagonal(moment).astype(np.float64)
    silent = diagonal <= 0
    mean = float(diagonal[~silent].mean()) if not silent.all() else 1.0
    diagonal[silent] = mean
    diagonal += _DAMPING * mean
    importance = diagonal.astype(np.float32)
    order = np.argsort(-diagonal, kind="stable")
    spread = _spread(moment, diagonal, order)
    parts = [weight[begin : begin + _ROWS] for begin in range(0, rows, _ROWS)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = list(pool.map(lambda part: _rows(part, spread, order, importance, form), parts))
    codes, scales = (np.concatenate(piece) for piece in zip(*done, strict=True))
    return Quantized(codes, scales, form)


def _spread(moment: NDArray[np.float32], diagonal: Doubles, order: Index) -> NDArray[np.float32]:
    """Upper U with UᵀU = H⁻¹, H being the moment with this diagonal, its inputs in `order`.

    Row k holds how input k's error spreads over the later ones. H turned by 180° is L Lᵀ, and L⁻¹ turned back
    is U.
    """
    back = order[::-1]
    turned = moment[np.ix_(back, back)].astype(np.float64)
    turned[np.diag_indices_from(turned)] = diagonal[back]
    lower: Doubles = np.linalg.cholesky(turned).astype(np.float64, copy=False)
    del turned
    _invert_lower(lower)
    return lower[::-1, ::-1].astype(np.float32)


def _invert_lower(lower: Doubles) -> None:
    """Invert a lower triangle in place, halves first."""
    size = len(lower)
    if size <= _SMALL:
        lower[:] = np.linalg.inv(lower)
        return
    half = size // 2
    first, below, second = lower[:half, :half], lower[half:, :half], lower[half:, half:]
    _invert_lower(first)
    _invert_lower(second)
    below[:] = -second @ (below @ first)


def _rows(
    weight: NDArray[np.float32],
    spread: NDArray[np.float32],
    order: Index,
    importance: NDArray[np.float32],
    form: Format,
) -> tuple[Codes, NDArray[np.float32]]:
    """Codes and scales of some outputs; they do not depend on the others."""
    count, columns = weight.shape
    blocks = (-1, columns // form.block, form.block)
    scales = best_scales(weight.reshape(blocks), form, importance.reshape(blocks[1:]))
    work = weight.T[order]  # one input's weights lie together
    codes = np.empty((columns, count), form.dtype)
    for begin in range(0, columns, _PANEL):
        end = min(begin + _PANEL, columns)
        errors = np.empty((end - begin, count), np.float32)
        for k in range(begin, end):
            scale = scales[:, order[k] // form.block]
            code = form.encode(work[k] / scale)
            codes[order[k]] = code
            errors[k - begin] = (work[k] - code.astype(np.float32) * scale) / spread[k, k]
            work[k + 1 : end] -= spread[k, k + 1 : end, None] * errors[k - begin]
        work[end:] -= spread[begin:end, end:].T @ errors
    return codes.T, scales
