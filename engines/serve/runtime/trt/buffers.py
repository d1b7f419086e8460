"""Everything a runtime keeps on the device beside the plan: allocated once, at known sizes."""

from dataclasses import dataclass

import numpy as np

from engines.manifest import Profile
from engines.serve.kernels.table import CHOICE, DRAW
from engines.serve.runtime.trt.device import Device
from engines.serve.runtime.trt.layout import CacheLayout, aligned, row_stride
from engines.serve.runtime.trt.watchdog import wait_until

_INPUTS = 5  # small inputs of the graph, int64


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes, from the number of slots; all pure arithmetic.

    decode, prefill: of a step's inputs; sampling: of its tables and masks; draws: of its results.
    hidden_size: elements of a hidden state; 0 when the plan gives none.
    """

    slots: int
    vocab_size: int
    layout: CacheLayout
    chunk: int
    rows: int
    hidden_size: int = 0

    @classmethod
    def of(
        cls, slots: int, vocab_size: int, layout: CacheLayout, prefill: Profile, hidden_size: int = 0
    ) -> "Sizes":
        return cls(slots, vocab_size, layout, prefill.tokens[2], min(prefill.batch[2], slots), hidden_size)

    @property
    def stride(self) -> int:
        """Rows from one slot's logits to the next in a prefill, and likewise of its hidden state."""
        return max(row_stride(self.vocab_size), row_stride(self.hidden_size))

    @property
    def words(self) -> int:
        """32-bit words of one row's mask."""
        return -(-self.vocab_size // 32)

    @property
    def decode(self) -> int:
        return _INPUTS * aligned(8 * self.slots)

    @property
    def prefill(self) -> int:
        return 2 * aligned(8 * self.rows * self.chunk) + (_INPUTS - 2) * aligned(8 * self.rows)

    @property
    def sampling(self) -> int:
        return aligned(CHOICE.itemsize * self.slots) + 2 * aligned(4 * self.words * self.slots)

    @property
    def draws(self) -> int:
        return aligned(DRAW.itemsize * self.slots)

    @property
    def logits(self) -> int:
        return aligned(4 * self.vocab_size * self.stride * self.slots)

    @property
    def hidden(self) -> int:
        return aligned(4 * self.hidden_size * self.stride * self.slots)

    @property
    def ids(self) -> int:
        return aligned(8 * self.slots)

    @property
    def latest(self) -> int:
        return aligned(4 * self.slots)

    @property
    def fixed(self) -> int:
        """Everything but the caches."""
        tables = aligned(8 * 2 * self.layout.layers)
        inputs = self.decode + self.prefill + self.sampling + self.draws
        return inputs + self.logits + self.hidden + self.ids + self.latest + tables


@dataclass(frozen=True, slots=True)
class Buffers:
    """Device addresses. caches: by name after `past_`, [slots, heads, S, width]; tables: their addresses on
    the device; ids: a decode step's, int64; latest: the token last sampled for each slot, int32."""

    caches: dict[str, int]
    tables: int
    decode: int
    prefill: int
    sampling: int
    draws: int
    logits: int
    hidden: int
    ids: int
    latest: int

    @classmethod
    def allocate(cls, device: Device, sizes: Sizes, limit: float) -> "Buffers":
        """limit: seconds the device may take. Raises StepHung after that."""
        caches = {name: device.allocate(sizes.slots * sizes.layout.slot_bytes) for name in sizes.layout.names}
        addresses = np.array(list(caches.values()), np.uint64).view(np.uint8)
        tables = device.allocate(aligned(addresses.nbytes))
        pinned = device.pinned(addresses.nbytes)
        pinned[:] = addresses
        device.upload(tables, pinned)
        wait_until(device.record().query, limit)
        return cls(
            caches,
            tables,
            decode=device.allocate(sizes.decode),
            prefill=device.allocate(sizes.prefill),
            sampling=device.allocate(sizes.sampling),
            draws=device.allocate(sizes.draws),
            logits=device.allocate(sizes.logits),
            hidden=device.allocate(sizes.hidden) if sizes.hidden else 0,
            ids=device.allocate(sizes.ids),
            latest=device.allocate(sizes.latest),
        )
