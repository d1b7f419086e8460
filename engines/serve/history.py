"""Which tokens a context has, one bit each: what the repetition penalty asks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class History:
    """Grows with a list of tokens; `bits` [ceil(V / 32)] has the lowest token in the lowest bit."""

    def __init__(self, vocab_size: int) -> None:
        self.bits: NDArray[np.int32] = np.zeros(-(-vocab_size // 32), np.int32)
        self._counted = 0

    def update(self, known: Sequence[int]) -> None:
        """Take in what was appended to `known` since the last time."""
        new = np.asarray(known[self._counted :], np.int64)
        np.bitwise_or.at(self.bits.view(np.uint32), new // 32, np.uint32(1) << (new % 32).astype(np.uint32))
        self._counted = len(known)
