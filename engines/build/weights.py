"""Weights as the graph wants them, described by the checkpoint tensors they are cut from.

Nothing is read until `rows` is called, and then only the rows asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.errors import CheckpointError

Index = NDArray[np.int64]
_CHUNK_BYTES = 64 << 20


class Source(Protocol):
    """Where tensors come from: `read(name)` gives an array in the file's own dtype."""

    def read(self, name: str) -> NDArray[Any]: ...


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of one checkpoint tensor of `shape` [N, K] or [N]: all, or those of `order` (-1: zeros)."""

    tensor: str
    shape: tuple[int, ...]
    order: Index | None = None

    @property
    def count(self) -> int:
        return self.shape[0] if self.order is None else len(self.order)

    def rows(self, source: Source, begin: int, end: int) -> NDArray[np.float32]:
        """Raises CheckpointError naming the tensor when a number in them is not finite."""
        data = source.read(self.tensor)
        if self.order is None:
            return finite(self.tensor, np.asarray(data[begin:end], np.float32))
        return finite(self.tensor, take(data, self.order[begin:end]))


@dataclass(frozen=True, eq=False)
class Matrix:
    """W [N, K] of y = x Wᵀ: parts stacked by rows, columns reordered by `columns` (-1: a column of zeros)."""

    name: str
    parts: tuple[Part, ...]
    columns: Index | None = None

    @property
    def shape(self) -> tuple[int, int]:
        width = self.parts[0].shape[1] if self.columns is None else len(self.columns)
        return sum(part.count for part in self.parts), width

    def rows(self, source: Source, begin: int = 0, end: int | None = None) -> NDArray[np.float32]:
        """float32 [end - begin, K]."""
        end = self.shape[0] if end is None else end
        pieces, base = [], 0
        for part in self.parts:
            low, high = max(begin - base, 0), min(end - base, part.count)
            if low < high:
                pieces.append(part.rows(source, low, high))
            base += part.count
        stacked = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        return stacked if self.columns is None else take(stacked.T, self.columns).T

    def chunks(self, source: Source) -> Iterator[NDArray[np.float32]]:
        """All rows in order, some 64 MiB at a time."""
        count, width = self.shape
        step = max(_CHUNK_BYTES // (4 * width), 1)
        for begin in range(0, count, step):
            yield self.rows(source, begin, min(begin + step, count))


@dataclass(frozen=True, eq=False)
class Vector:
    """A bias or norm weight: parts laid end to end, times `scale`."""

    name: str
    parts: tuple[Part, ...]
    scale: float = 1.0

    def values(self, source: Source) -> NDArray[np.float32]:
        """float32 [N]."""
        pieces = [part.rows(source, 0, part.count) for part in self.parts]
        return np.concatenate(pieces) * np.float32(self.scale)


def finite(tensor: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """`values` of this tensor as they are. Raises CheckpointError when NaN or infinity is among them."""
    if not np.isfinite(values).all():
        raise CheckpointError(
            f"{tensor} has NaN or infinity among its weights; download the checkpoint again"
        )
    return values


def take(data: NDArray[Any], order: Index) -> NDArray[np.float32]:
    """Rows of `data` in `order` as float32; -1 gives zeros."""
    taken = np.asarray(data[np.maximum(order, 0)], np.float32)
    taken[order < 0] = 0
    return taken
