"""Which rows of unlike length run together, so that little of what runs is padding."""

from collections.abc import Sequence
from itertools import pairwise


def cut(lengths: Sequence[int], pieces: int) -> list[slice]:
    """Cut rows of ascending `lengths` into at most `pieces` runs with the fewest padded positions in all.

    By dynamic programming over (rows so far, runs so far): O(pieces * rows^2).
    """
    rows = len(lengths)
    best: dict[int, tuple[int, tuple[int, ...]]] = {0: (0, ())}  # by rows so far: cost, where runs begin
    for _ in range(pieces):
        best |= {
            end: min(
                (cost + lengths[end - 1] * (end - begin), (*begins, begin))
                for begin, (cost, begins) in best.items()
                if begin < end
            )
            for end in range(1, rows + 1)
        }
    return [slice(begin, end) for begin, end in pairwise([*best[rows][1], rows])]
