"""The door between the machine and whatever runs the graph."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]
Logits = NDArray[np.float32]


class Runtime(Protocol):
    """One graph with KV caches of `slots` rows, `capacity` tokens each. Used by one thread at a time.

    Returned logits are the caller's to overwrite, until the next call. A cache cell is only read after
    it was written: slots are reused without clearing.
    """

    slots: int
    capacity: int
    vocab_size: int

    def prefill(self, slots: range, tokens: Sequence[Tokens], starts: Tokens) -> Logits:
        """Compute tokens[i] at positions starts[i]... of slot slots[i]; positions before hold its KV.

        Returns the logits of each row's last token, [len(slots), V].
        """
        ...

    def decode(self, tokens: Tokens, positions: Tokens) -> Logits:
        """Compute tokens[s] at positions[s] of each slot s in [0, n); returns logits [n, V]."""
        ...

    def copy_slot(self, source: int, target: int, length: int) -> None:
        """Copy the KV of the first `length` positions."""
        ...

    def close(self) -> None:
        """Give the memory back; nothing else may be called afterwards."""
        ...
