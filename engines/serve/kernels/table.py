"""What the sampling kernel reads and writes per row, field by field as in sample.cu."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engines.serve.prompt import Sampling

UNIT = 2.0**44  # the weight of a row's best token
LOG2_E = np.float32(1.44269504)
_STEEPEST = 1e30  # of 1 / temperature: the best token's 0 must stay 0 when multiplied

CHOICE = np.dtype(
    [
        ("seed", np.uint64),
        ("position", np.uint64),
        ("top_p", np.uint64),
        ("min_weight", np.uint64),
        ("logits", np.int32),
        ("allowed", np.int32),
        ("seen", np.int32),
        ("slot", np.int32),
        ("top_k", np.uint32),
        ("scale", np.float32),
        ("penalty", np.float32),
        ("measured", np.int32),
    ]
)
DRAW = np.dtype(
    [
        ("total", np.uint64),
        ("best", np.float32),
        ("chosen", np.float32),
        ("token", np.int32),
        ("unused", np.int32),
    ]
)

Table = NDArray[np.void]


def choice_table(choices: Sequence[Sampling], seeds: Sequence[int], positions: Sequence[int]) -> Table:
    """One CHOICE per row: fractions as 64-bit integers, as the specification counts. Row i draws from
    logits row i; nothing is masked, seen, kept or measured until the caller says so."""
    table = np.zeros(len(choices), CHOICE)
    table["logits"] = np.arange(len(choices))
    for name in ("allowed", "seen", "slot"):
        table[name] = -1
    table["seed"], table["position"] = np.array([seeds, positions], np.uint64)
    table["penalty"] = [choice.repetition_penalty for choice in choices]
    for i, choice in enumerate(choices):
        if choice.temperature > 0:
            row = table[i]
            row["scale"] = float(LOG2_E) * min(1 / choice.temperature, _STEEPEST)
            row["top_k"] = min(choice.top_k, 2**32 - 1)
            row["top_p"] = max(1, int(choice.top_p * 2**64)) if choice.top_p < 1 else 0
            row["min_weight"] = int(np.ceil(choice.min_p * UNIT))
    return table


def log_probabilities(draws: Table) -> NDArray[np.float64]:
    """Natural logarithm of each measured token's probability by the model alone; NaN where no token is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = draws["chosen"].astype(np.float64) - draws["best"]
        result = difference - np.log(draws["total"] / UNIT)
    return np.asarray(np.where((draws["token"] >= 0) & (draws["total"] > 0), result, np.nan))
