"""From logits to token ids, all rows of a step at once: the specification of the GPU's kernel as well.

Order: grammar mask and repetition penalty, temperature, top-k, top-p, min-p. Top-p keeps the fewest
likeliest tokens whose probabilities reach p; tokens that tie with the last one kept are kept too.

A token weighs 2**(log2(e) (logit - best) / temperature), in float32 and rounded down to a multiple of 2**-44.
Everything after that is counted in integers, so that no order of adding and no batch changes a draw, and the
kernel (engines/serve/kernels/sample.cu) draws the same tokens from the same logits.
"""

import numpy as np
from numpy.typing import NDArray

from engines.serve.kernels.table import DRAW, LOG2_E, Table
from engines.serve.philox import random_bits

Logits = NDArray[np.float32]
Bits = NDArray[np.int32]
Weights = NDArray[np.float32]

_UNIT_BITS = 44
_LEAST = np.float32(-_UNIT_BITS - 1)  # exponents from here down weigh nothing
_BLOCK = 1 << 16  # logits worked on at once, so that they stay in the cache
_SPAN = 64  # weights summed at once
_FEW = 256  # weights sorted at first
# Of 2**f, |f| <= 1/2, from the highest power: Taylor, ln(2)**k / k!
_COEFFICIENTS = np.array(
    [1.54035304e-4, 1.33335581e-3, 9.61812911e-3, 5.55041087e-2, 2.40226507e-1, 6.93147181e-1, 1.0],
    np.float32,
)


def draw(logits: Logits, table: Table, allowed: Bits | None = None, seen: Bits | None = None) -> Table:
    """One DRAW per CHOICE of `table`; its token is -1 where the best logit is not finite.

    logits [*, V]; allowed, seen [*, ceil(V / 32)], lowest bit first.
    """
    draws = np.zeros(len(table), DRAW)
    values = logits[: len(table)] if _plain(table) else _processed(logits, table, allowed, seen)
    at = np.arange(len(table))
    tokens = values.argmax(axis=1)
    tokens = np.where(np.isfinite(values[at, tokens]), tokens, -1)
    drawn = np.flatnonzero((table["scale"] > 0) & (tokens >= 0))
    some = max(1, _BLOCK // logits.shape[1])
    for part in np.split(drawn, range(some, len(drawn), some)) if len(drawn) else ():
        tokens[part] = _draw(values[part], table[part])
    draws["token"] = tokens
    measured = np.flatnonzero((table["measured"] != 0) & (tokens >= 0))
    if len(measured):
        raw = logits[table["logits"][measured]]
        draws["best"][measured] = best = np.fmax.reduce(raw, axis=1)
        draws["chosen"][measured] = raw[np.arange(len(measured)), tokens[measured]]
        draws["total"][measured] = _weights(raw, best, np.full(len(raw), LOG2_E)).sum(axis=1, dtype=np.int64)
    return draws


def _plain(table: Table) -> bool:
    """Whether the table's rows are the logits' first rows as they are."""
    in_order = bool((table["logits"] == np.arange(len(table))).all())
    return in_order and bool((table["allowed"] < 0).all() and (table["seen"] < 0).all())


def _processed(logits: Logits, table: Table, allowed: Bits | None, seen: Bits | None) -> Logits:
    """A copy of the rows' logits after penalty and mask."""
    values: Logits = logits[table["logits"]]
    width = logits.shape[1]
    for i in np.flatnonzero(table["seen"] >= 0):
        assert seen is not None
        row, penalty = values[i], table["penalty"][i]
        again = np.flatnonzero(_unpack(seen[table["seen"][i]], width))
        row[again] = np.where(row[again] > 0, row[again] / penalty, row[again] * penalty)
    for i in np.flatnonzero(table["allowed"] >= 0):
        assert allowed is not None
        np.copyto(values[i], -np.inf, where=~_unpack(allowed[table["allowed"][i]], width))
    return values


def _unpack(bits: Bits, width: int) -> NDArray[np.bool_]:
    return np.unpackbits(bits.view(np.uint8), count=width, bitorder="little").view(bool)


def _weights(values: Logits, best: Logits, scales: NDArray[np.float32]) -> Weights:
    """[n, V] for values [n, V], best [n] and scales [n]: whole numbers of 24 significant bits."""
    with np.errstate(invalid="ignore", over="ignore"):
        t = values - best[:, None]
        t *= scales[:, None]
    np.fmax(t, _LEAST, out=t)
    whole = np.rint(t)
    t -= whole
    p: Weights = t * _COEFFICIENTS[0]
    for coefficient in _COEFFICIENTS[1:-1]:
        p += coefficient
        p *= t
    p += _COEFFICIENTS[-1]
    whole += np.float32(_UNIT_BITS + 127)
    power = whole.astype(np.int32)
    power <<= 23
    p *= power.view(np.float32)
    np.floor(p, out=p)
    return p


def _draw(values: Logits, table: Table) -> list[int]:
    """Categorical draws by inverting the running total at each row's random share of it."""
    weights = _weights(values, values.max(axis=1), table["scale"])
    shares = random_bits(table["seed"], table["position"]).tolist()
    return [_pick(row, choice, share) for row, choice, share in zip(weights, table, shares, strict=True)]


def _pick(weights: Weights, choice: np.void, share: int) -> int:
    """One row [V]: the first token whose running total of kept weights passes share / 2**64 of them all."""
    least = _smallest_kept(weights, choice)
    if least > 0:
        kept = np.flatnonzero(weights >= least)
        return int(kept[_first(weights[kept], share)])
    return _first(weights, share)


def _first(weights: Weights, share: int) -> int:
    """Index at which the running total first passes share / 2**64 of the whole: by blocks, then in one."""
    cut = len(weights) // _SPAN * _SPAN
    sums = np.add.reduce(weights[:cut].reshape(-1, _SPAN), axis=1, dtype=np.float64)  # exact: below 2**53
    running = np.cumsum(np.append(sums, np.add.reduce(weights[cut:], dtype=np.float64)).astype(np.int64))
    target = share * int(running[-1]) >> 64
    block = int(running.searchsorted(target, side="right"))
    begin = block * _SPAN
    inside = np.cumsum(weights[begin : begin + _SPAN].astype(np.int64))
    before = int(running[block - 1]) if block else 0
    return begin + int(inside.searchsorted(target - before, side="right"))


def _smallest_kept(weights: Weights, choice: np.void) -> float:
    """The smallest weight that top-k, top-p and min-p keep."""
    width, count, share = len(weights), int(choice["top_k"]), int(choice["top_p"])
    least, best = float(choice["min_weight"]), weights
    if 0 < count < width:
        best = np.partition(weights, width - count)[width - count :]
        least = max(least, float(best.min()))
    if share:
        total = int(np.add.reduce(best.astype(np.int64)))
        needed = -(-share * total >> 64)
        few = min(_FEW, len(best))
        for size in (few, len(best)):  # the likeliest few nearly always hold enough; sorting all is slow
            ordered = np.sort(np.partition(best, len(best) - size)[len(best) - size :])[::-1].astype(np.int64)
            running = np.cumsum(ordered)
            if running[-1] >= needed:
                break
        least = max(least, float(ordered[running.searchsorted(needed)]))
    return least
