"""The door between the machine and whatever runs the graph."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engines.serve.kernels.table import Table

Tokens = NDArray[np.int64]
Logits = NDArray[np.float32]
Hidden = NDArray[np.float32]
Bits = NDArray[np.int32]


class Draws(Protocol):
    """What a step draws, once it is done."""

    def wait(self) -> Table:
        """One DRAW per row of the table that was asked for."""
        ...


class Runtime(Protocol):
    """One graph with KV caches of `slots` rows, `capacity` tokens each. Used by one thread at a time.

    Logits and hidden states stay where they are computed: those of a slot's last token until the slot is
    computed again or another decode runs. What cells of a cache hold before they are written does not count
    as long as it is numbers: slots are reused without clearing, but for `clear_slot`.

    depth: steps that it keeps at work at once. 1: every call returns when its work is done. 2: a step may be
    asked for before the last one's draws are read. hidden_size: None when the graph does not give them.
    """

    depth: int
    slots: int
    capacity: int
    vocab_size: int
    hidden_size: int | None

    def prefill(self, slots: range, tokens: Sequence[Tokens], starts: Tokens) -> None:
        """Compute tokens[i] at positions starts[i]... of slot slots[i]; positions before hold its KV."""
        ...

    def decode(self, tokens: Tokens, positions: Tokens) -> None:
        """Compute tokens[s] at positions[s] of each slot s in [0, n).

        -1 - t stands for the token that was last drawn for slot t, which need not be known here yet.
        """
        ...

    def sample(self, table: Table, allowed: Bits | None = None, seen: Bits | None = None) -> Draws:
        """Draw a token per CHOICE of `table`, whose `logits` is a slot; as sampler.draw says."""
        ...

    def finish(self) -> None:
        """Wait for everything that was asked for; raises what went wrong."""
        ...

    def logits(self, slots: range) -> Logits:
        """A copy of the slots' logits, [len(slots), V]: to score some tokens or to look, not to sample."""
        ...

    def hidden(self, slots: range) -> Hidden:
        """A copy of the slots' last hidden states after the final norm, [len(slots), hidden_size]."""
        ...

    def copy_slot(self, source: int, target: int, length: int) -> None:
        """Copy the KV of the first `length` positions."""
        ...

    def clear_slot(self, slot: int) -> None:
        """Its KV may be no numbers, which masking does not hide (0 × NaN): make it zeros."""
        ...

    def leave(self) -> None:
        """The calling thread is done with it; another may go on."""
        ...

    def close(self) -> None:
        """Give the memory back; nothing else may be called afterwards. Raises nothing."""
        ...
