"""Which rows run together in training."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from engines.demo.padding import cut


def padded(lengths: list[int], bounds: tuple[int, ...]) -> int:
    ends = [*bounds, len(lengths)]
    return sum(lengths[end - 1] * (end - begin) for begin, end in zip([0, *ends], ends, strict=False))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=9).map(sorted), st.integers(1, 4))
def test_no_other_cut_pads_less(lengths, pieces):
    slices = cut(lengths, pieces)
    assert 1 <= len(slices) <= pieces
    assert [row for piece in slices for row in range(len(lengths))[piece]] == list(range(len(lengths)))
    best = min(
        padded(lengths, bounds)
        for count in range(pieces)
        for bounds in combinations(range(1, len(lengths)), count)
    )
    assert sum(lengths[piece.stop - 1] * (piece.stop - piece.start) for piece in slices) == best
