"""From logits to token ids, all rows of a step at once.

Filters apply in this order: grammar mask, temperature, top-k, top-p. Top-p keeps the fewest likeliest
tokens whose probabilities reach p; tokens that tie with the last one kept are kept too.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engines.serve.philox import uniform
from engines.serve.prompt import Sampling

Logits = NDArray[np.float32]
_BLOCK, _CANDIDATES, _HUGE = 64, 256, 1e30


def apply_mask(logits: Logits, rows: Sequence[int], bits: NDArray[np.int32]) -> None:
    """Set logits [n, V] of `rows` to -inf where `bits` [len(rows), ceil(V / 32)], lowest bit first, are 0."""
    if not len(rows):
        return
    width = logits.shape[1]
    allowed = np.unpackbits(bits.view(np.uint8), axis=1, count=width, bitorder="little").view(bool)
    for row, keep in zip(rows, allowed, strict=True):
        np.copyto(logits[row], -np.inf, where=~keep)


def sample(
    logits: Logits, choices: Sequence[Sampling], seeds: Sequence[int], positions: Sequence[int]
) -> NDArray[np.int64]:
    """One token id per row of logits [n, V], which are overwritten; -1 where the best logit is not finite.

    seeds, positions: what each row's random number is made from, see philox.uniform.
    """
    best = logits.argmax(axis=1)
    tokens = np.where(np.isfinite(logits[np.arange(len(best)), best]), best, -1)
    drawn = [i for i, choice in enumerate(choices) if choice.temperature > 0 and tokens[i] >= 0]
    if drawn:
        keys = np.array([seeds[i] for i in drawn], np.uint64)
        counters = np.array([positions[i] for i in drawn], np.uint64)
        part = logits if len(drawn) == len(logits) else logits[drawn]
        tokens[drawn] = _draw(part, [choices[i] for i in drawn], uniform(keys, counters))
    return tokens


def _draw(logits: Logits, choices: Sequence[Sampling], numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    """Categorical draws by inverting the cumulative distribution at `numbers` [n]; overwrites logits."""
    rows, width = logits.shape
    scales = np.array([min(1 / choice.temperature, _HUGE) for choice in choices], np.float32)
    # Subtracting the best first keeps a tiny temperature from overflowing.
    logits -= logits.max(axis=1, keepdims=True)
    logits *= scales[:, None]
    weights = np.exp(logits, out=logits)
    if width % _BLOCK:  # padding has no weight
        weights = np.zeros((rows, _whole_blocks(width)), np.float32)
        weights[:, :width] = logits
    filtered = [i for i, choice in enumerate(choices) if choice.top_k or choice.top_p < 1]
    if filtered:
        part = weights[filtered]
        weights[filtered] = part * (part >= _threshold(part, [choices[i] for i in filtered])[:, None])
    ends = _block_ends(weights)
    return _first_above(weights, ends, numbers * ends[:, -1])


def _threshold(weights: Logits, choices: Sequence[Sampling]) -> Logits:
    """The smallest weight that top-k and top-p keep, [n]; weights [n, whole blocks]."""
    width, every = weights.shape[1], np.arange(len(choices))
    kept = np.array([min(choice.top_k or width, width) for choice in choices])
    shares = np.array([choice.top_p for choice in choices])
    total = np.where(kept < width, 0, _block_ends(weights)[:, -1])
    few = min(width, _whole_blocks(max(_CANDIDATES, *(choice.top_k for choice in choices))))
    for size in (few, width):  # the likeliest few nearly always hold enough; sorting all is slow
        best = -np.sort(-np.partition(weights, width - size, axis=1)[:, width - size :], axis=1)
        best *= np.arange(size) < kept[:, None]
        ends = _block_ends(best)
        # "Reaches the share" is "exceeds the number just below it".
        targets = np.nextafter(shares * np.maximum(total, ends[:, -1]), 0)
        if size == width or (ends[:, -1] > targets).all():
            break
    last = np.where(shares < 1, _first_above(best, ends, targets), kept - 1)
    threshold: Logits = best[every, np.minimum(last, size - 1)]
    return threshold


def _first_above(
    weights: Logits, ends: NDArray[np.float64], targets: NDArray[np.float64]
) -> NDArray[np.int64]:
    """First index at which the cumulative weight exceeds targets [n]; ends: see _block_ends."""
    every = np.arange(len(weights))
    block = (ends > targets[:, None]).argmax(axis=1)
    before = np.where(block > 0, ends[every, block - 1], 0)
    inside = np.cumsum(weights.reshape(len(weights), -1, _BLOCK)[every, block], axis=1, dtype=np.float64)
    above = inside > (targets - before)[:, None]
    # Sums in another order may differ in the last digit; the block's last weighty token is meant then.
    last = (inside == inside[:, -1:]).argmax(axis=1)
    return np.asarray(block * _BLOCK + np.where(above.any(axis=1), above.argmax(axis=1), last), np.int64)


def _block_ends(weights: Logits) -> NDArray[np.float64]:
    """Cumulative weight at the end of each block, [n, blocks]: several times faster than token by token."""
    sums = np.einsum("nbi->nb", weights.reshape(len(weights), -1, _BLOCK))
    return np.cumsum(sums, axis=1, dtype=np.float64)


def _whole_blocks(width: int) -> int:
    return -(-width // _BLOCK) * _BLOCK
