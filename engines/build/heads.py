"""The order of elements inside an attention head.

A score q·k does not change when q and k are reordered alike or padded with zeros. So every head is laid
out the one way both runtimes take: rotary pairs first and adjacent, the rest after them, then zeros up
to a multiple of 16. Rotary tables are padded with the identity (cos 1, sin 0).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.build.config import ModelConfig
from engines.build.rope import Rope
from engines.build.weights import Index

_MULTIPLE = 16


@dataclass(frozen=True)
class HeadLayout:
    """Source element of each element of a query or key head, and of a value head; -1 is a zero."""

    keys: Index
    values: Index
    rotary_dims: int

    @property
    def width(self) -> int:
        return len(self.keys)

    def repeat(self, order: Index, heads: int, stride: int, offset: int = 0) -> Index:
        """`order` for `heads` heads whose elements start every `stride` rows."""
        starts = np.arange(heads)[:, None] * stride + offset
        return np.where(order[None, :] < 0, -1, order[None, :] + starts).reshape(-1)


def rotary_pairs(rope: Rope) -> Index:
    """Elements 0..dims in pair order: (0, 1), (2, 3) … or, for half-split rotary, (0, d/2), (1, d/2 + 1) …"""
    index = np.arange(rope.dims)
    return index if rope.interleaved else index.reshape(2, -1).T.reshape(-1)


def head_layout(config: ModelConfig) -> HeadLayout:
    """Layout of a head of `config`; the file has the rotary elements of latent attention after the others."""
    if config.latent:
        start, plain = config.latent.nope, np.arange(config.latent.nope)
        value = config.latent.value
    else:
        start, plain = 0, np.arange(config.rope.dims, config.head_dim)
        value = config.head_dim
    order = np.concatenate([rotary_pairs(config.rope) + start, plain])
    width = _round_up(max(len(order), value))
    return HeadLayout(_pad(order, width), _pad(np.arange(value), width), _round_up(config.rope.dims))


def rotary_tables(config: ModelConfig, dims: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """cos and sin [context, dims / 2], identity beyond the model's own rotary size."""
    cos, sin = config.rope.tables(config.context)
    extra = dims // 2 - cos.shape[1]
    return np.pad(cos, ((0, 0), (0, extra)), constant_values=1), np.pad(sin, ((0, 0), (0, extra)))


def _round_up(size: int) -> int:
    return -(-size // _MULTIPLE) * _MULTIPLE


def _pad(order: Index, width: int) -> Index:
    return np.pad(order, (0, width - len(order)), constant_values=-1)
