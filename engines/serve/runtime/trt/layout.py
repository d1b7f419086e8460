"""Where a slot's keys and values are: addresses in bytes, computed and never stored."""

from dataclasses import dataclass
from math import gcd

from engines.errors import EngineFolderError
from engines.manifest import Manifest

_ALIGNMENT = 256  # of every address TensorRT is given, in bytes
_WORD = 16  # that the copy kernel moves at once
_WIDTHS = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class CacheLayout:
    """A cache is [slots, heads, capacity, width] of `itemsize` bytes; there are two per layer.

    Raises EngineFolderError when slots could not be bound or copied at their addresses.
    """

    layers: int
    heads: int
    capacity: int
    width: int
    itemsize: int

    def __post_init__(self) -> None:
        if self.token_bytes % _WORD:
            raise EngineFolderError(
                f"a head's key takes {self.token_bytes} bytes per token, which must be a multiple of {_WORD}"
            )
        if self.slot_bytes % _ALIGNMENT:
            raise EngineFolderError(
                f"a slot of {self.capacity} tokens takes {self.slot_bytes} bytes per cache, which must be a "
                f"multiple of {_ALIGNMENT}; build the plan for a multiple of 16 tokens"
            )

    @classmethod
    def of(cls, manifest: Manifest) -> "CacheLayout":
        assert manifest.plan is not None
        sizes = manifest.sizes
        itemsize = _WIDTHS[manifest.kv.dtype]
        return cls(sizes.layers, sizes.kv_heads, manifest.plan.capacity, sizes.head_dim, itemsize)

    @property
    def names(self) -> list[str]:
        """The caches' names after `past_` and `present_`."""
        return [f"{kind}_{layer}" for layer in range(self.layers) for kind in ("key", "value")]

    @property
    def token_bytes(self) -> int:
        """Of one token in one head of one cache."""
        return self.width * self.itemsize

    @property
    def head_bytes(self) -> int:
        """From one head of a slot to the next."""
        return self.capacity * self.token_bytes

    @property
    def slot_bytes(self) -> int:
        """Of one slot in one cache."""
        return self.heads * self.head_bytes

    @property
    def slot_bytes_everywhere(self) -> int:
        """Of one slot in all caches."""
        return 2 * self.layers * self.slot_bytes

    def offset(self, slot: int) -> int:
        """From a cache's address to a slot's."""
        return slot * self.slot_bytes

    def prefix_words(self, length: int) -> int:
        """16-byte words of the first `length` tokens of one head. Raises ValueError beyond the capacity."""
        if not 0 <= length <= self.capacity:
            raise ValueError(f"a slot holds {self.capacity} tokens, not {length}")
        return length * self.token_bytes // _WORD


def row_stride(vocab_size: int) -> int:
    """Rows of logits [*, V] in float32 from one aligned row to the next."""
    floats = _ALIGNMENT // 4
    return floats // gcd(vocab_size, floats)


def aligned(size: int) -> int:
    """`size` bytes, rounded up to an address TensorRT takes."""
    return -(-size // _ALIGNMENT) * _ALIGNMENT
