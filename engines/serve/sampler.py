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
    """One token id per row of logits [n, V]; -1 where the row's best logit is not finite.

    seeds, positions: what each row's random number is made from, see philox.uniform.
    """
    best = logits.argmax(axis=1)
    tokens = np.where(np.isfinite(logits[np.arange(len(best)), best]), best, -1)
    drawn = [i for i, choice in enumerate(choices) if choice.temperature > 0 and tokens[i] >= 0]
    if drawn:
        keys = np.array([seeds[i] for i in drawn], np.uint64)
        counters = np.array([positions[i] for i in drawn], np.uint64)
        tokens[drawn] = _draw(logits[drawn], [choices[i] for i in drawn], uniform(keys, counters))
    return tokens


def _draw(logits: Logits, choices: Sequence[Sampling], numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    """Categorical draws by inverting the cumulative distribution at `numbers` [n]."""
    temperatures = np.array([choice.temperature for choice in choices])[:, None]
    # Subtracting first keeps a tiny temperature from overflowing.
    scaled = (logits - logits.max(axis=1, keepdims=True)).astype(np.float64) / temperatures
    weights = np.exp(scaled)
    filtered = [i for i, choice in enumerate(choices) if choice.top_k or choice.top_p < 1]
    if filtered:
        part = weights[filtered]
        part[part < _threshold(part, [choices[i] for i in filtered])] = 0
        weights[filtered] = part
    total = np.cumsum(weights, axis=1)
    return np.asarray((total > (numbers * total[:, -1])[:, None]).argmax(axis=1), np.int64)


def _threshold(weights: NDArray[np.float64], choices: Sequence[Sampling]) -> NDArray[np.float64]:
    """The smallest weight that top-k and top-p keep, per row [n, 1]."""
    width = weights.shape[1]
    ordered = -np.sort(-weights, axis=1)
    kept = np.array([min(choice.top_k or width, width) for choice in choices])
    ordered[np.arange(width) >= kept[:, None]] = 0
    total = np.cumsum(ordered, axis=1)
    shares = np.array([choice.top_p for choice in choices])
    last = (total >= (shares * total[:, -1])[:, None]).argmax(axis=1)
    last = np.where(shares < 1, last, kept - 1)
    return np.asarray(ordered[np.arange(len(choices)), last][:, None], np.float64)
