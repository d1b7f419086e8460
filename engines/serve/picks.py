"""Rows' next tokens, asked of the runtime: masks filled, penalties and seeds laid out."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from engines.errors import GrammarError
from engines.serve.kernels.table import choice_table
from engines.serve.meter import Work
from engines.serve.row import Row
from engines.serve.runtime.contract import Draws, Runtime
from engines.serve.stats import Counters


class Pick(NamedTuple):
    """Tokens that are being drawn, one per row. constrained, masked: indices of the rows that have a grammar,
    and of those that were drawn under its mask. work: what had to be done before."""

    rows: list[Row]
    draws: Draws
    constrained: Sequence[int]
    masked: frozenset[int]
    work: Work | None


class Picker:
    """Asks for at most `rows` tokens at once; `fail` hears of rows whose grammar gives no mask."""

    def __init__(
        self, runtime: Runtime, rows: int, counters: Counters, fail: Callable[[Row, Exception], None]
    ) -> None:
        self._runtime, self._counters, self._fail = runtime, counters, fail
        self._bits = np.zeros((rows, -(-runtime.vocab_size // 32)), np.int32)
        self._address, self._size = self._bits.ctypes.data, self._bits.shape[1] * 4

    def pick(
        self, rows: list[Row], constrained: Sequence[int], masks: Sequence[int], work: Work | None = None
    ) -> Pick:
        """Draw a token per row; rows `masks` of those that are `constrained` under their grammar's mask.

        Everything a row knows must be read: its mask, penalty and random number follow from that.
        """
        masked = self._mask(rows, masks)
        choices = [row.prompt.sampling for row in rows]
        seeds, positions = [row.seed for row in rows], [len(row.known) for row in rows]
        table = choice_table(choices, seeds, positions)
        # A row that its grammar failed is drawn for nothing, and has no slot that its token could go to.
        table["logits"] = [row.slot or 0 for row in rows]
        table["slot"] = [-1 if row.slot is None else row.slot for row in rows]
        table["allowed"][masked] = np.arange(len(masked))
        repeating = [i for i, row in enumerate(rows) if row.history is not None]
        table["seen"][repeating] = np.arange(len(repeating))
        seen = np.stack([rows[i].seen() for i in repeating]) if repeating else None
        draws = self._runtime.sample(table, self._bits[: len(masked)] if masked else None, seen)
        return Pick(rows, draws, constrained, frozenset(masked), work)

    def _mask(self, rows: list[Row], which: Sequence[int]) -> list[int]:
        """Fill the masks of rows `which`; returns those whose grammar did not fail."""
        if not which:
            return []
        began = time.perf_counter()
        masked = list[int]()
        for i in which:
            grammar = rows[i].grammar
            assert grammar is not None
            try:
                grammar.fill(self._address + len(masked) * self._size, self._size)
                masked.append(i)
            except GrammarError as error:
                self._fail(rows[i], error)
        self._counters.masks += len(masked)
        self._counters.mask_seconds += time.perf_counter() - began
        return masked
