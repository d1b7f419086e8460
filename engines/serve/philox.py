"""Philox4x32-10, the counter-based generator of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3"
(2011): a number depends on its key and counter alone, so a seed draws the same tokens in any batch."""

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_ROUNDS = 10


def philox(keys: U64, counters: tuple[U64, U64, U64, U64]) -> tuple[U64, U64, U64, U64]:
    """Four 32-bit words per key [n] (64 bits) and counter (four [n] arrays of 32-bit words)."""
    key0, key1 = keys & _LOW, keys >> _SHIFT
    c0, c1, c2, c3 = counters
    for _ in range(_ROUNDS):
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (product1 >> _SHIFT) ^ c1 ^ key0,
            product1 & _LOW,
            (product0 >> _SHIFT) ^ c3 ^ key1,
            product0 & _LOW,
        )
        key0, key1 = (key0 + _WEYL[0]) & _LOW, (key1 + _WEYL[1]) & _LOW
    return c0, c1, c2, c3


def random_bits(seeds: U64, positions: U64) -> U64:
    """64 random bits per seed [n] and position [n] (each below 2**64)."""
    zero = np.zeros_like(seeds)
    high, low, _, _ = philox(seeds, (positions & _LOW, positions >> _SHIFT, zero, zero))
    return (high << _SHIFT) | low
