"""A prefill in launches that the plan's profile and the caches' static size allow."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Launch:
    """Rows [first, first + len(pieces)) of the prefill; pieces: (start, stop) among the row's tokens.

    All pieces are padded to `width` tokens.
    """

    first: int
    pieces: tuple[tuple[int, int], ...]
    width: int


def prefill_launches(
    lengths: Sequence[int], starts: Sequence[int], *, chunk: int, rows: int, capacity: int
) -> list[Launch]:
    """lengths: tokens of each row; starts: where in its slot each row's first token goes.

    chunk, rows: most tokens per row and rows of one launch. Padding is written into the caches as well, so
    rows are computed together only where it stays inside and wastes little, else one by one; a row longer
    than `chunk` takes several launches. Raises ValueError when a row does not fit its slot.
    """
    for length, start in zip(lengths, starts, strict=True):
        if not 1 <= length <= capacity - start:
            raise ValueError(f"{length} tokens from position {start} do not fit a slot of {capacity}")
    width = max(lengths)
    together = (
        1 < len(lengths) <= rows
        and width <= chunk
        and max(starts) + width <= capacity
        and len(lengths) * width <= 1.5 * sum(lengths)
    )
    if together:
        return [Launch(0, tuple((0, length) for length in lengths), width)]
    return [
        Launch(row, ((begin, min(begin + chunk, length)),), min(chunk, length - begin))
        for row, length in enumerate(lengths)
        for begin in range(0, length, chunk)
    ]
