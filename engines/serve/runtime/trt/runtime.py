"""The GPU runtime: a TensorRT plan, caches bound by address, sampling where the logits are."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineTooLarge
from engines.keepsake import Keepsake
from engines.manifest import CACHE_PREFIX, Manifest
from engines.serve.kernels.table import DRAW, Table, choice_table
from engines.serve.prompt import Sampling
from engines.serve.runtime.contract import Bits, Hidden, Logits, Tokens
from engines.serve.runtime.trt.buckets import decode_buckets
from engines.serve.runtime.trt.buffers import Buffers, Sizes
from engines.serve.runtime.trt.chunks import prefill_launches
from engines.serve.runtime.trt.compatibility import check_plan, profile, tensorrt_of
from engines.serve.runtime.trt.cuda import CudaDevice
from engines.serve.runtime.trt.device import Device, Event, Host, launch
from engines.serve.runtime.trt.frames import Frames, stage
from engines.serve.runtime.trt.layout import CacheLayout
from engines.serve.runtime.trt.memory import GpuMemoryPlan, Needs
from engines.serve.runtime.trt.plan import LoadedPlan
from engines.serve.runtime.trt.steps import Steps
from engines.serve.runtime.trt.watchdog import answers, keep_for_ever, wait_until

log = logging.getLogger(__name__)

_IN_FLIGHT = 3


class TrtRuntime:
    """See Runtime. Steps are enqueued and not waited for; only `PendingDraws.wait` and `logits` wait.

    The last cell of each slot is not part of `capacity`: rows that pad a decode step write there.
    """

    depth = 2

    def __init__(
        self,
        device: Device,
        loaded: LoadedPlan,
        sizes: Sizes,
        memory: GpuMemoryPlan,
        limit: float,
        cache: Keepsake | None = None,
    ) -> None:
        self.memory, self._device, self._sizes, self._limit = memory, device, sizes, limit
        self.slots, self.capacity = sizes.slots, sizes.layout.capacity - 1
        self.vocab_size, self.hidden_size = sizes.vocab_size, sizes.hidden_size or None
        self._buffers = Buffers.allocate(device, sizes, limit)
        self._draws = Frames(device, sizes.sampling + sizes.draws, _IN_FLIGHT, limit)
        self._readback = device.pinned(4 * max(self.vocab_size, sizes.hidden_size) * self.slots)
        self._row_of = np.arange(self.slots)  # of logits and hidden states, by slot
        self._steps = Steps(device, loaded, sizes, self._buffers, limit, cache)
        self._warm_up()

    @classmethod
    def open(
        cls,
        folder: Path,
        manifest: Manifest,
        *,
        rows: int | None = None,
        device: str | int | None = None,
        share: float | None = None,
        limit: float = 30.0,
    ) -> Self:
        """Load the engine folder's plan on a GPU of this machine.

        rows: that run at once, None for as many slots as fit. device: index or UUID. share: of its memory
        that the engine may take. limit: seconds a step may take. It is this thread's until `leave`.
        Raises EngineFolderError, EngineTooLarge, DeviceNotFound, KernelError, GpuFailed.
        """
        trt = tensorrt_of(manifest)
        gpu = CudaDevice(device)
        # What TensorRT-RTX compiles for this kind of GPU at the first start.
        cache = Keepsake(folder / f"{CACHE_PREFIX}{gpu.capability}.cache", "compiled kernels")
        try:
            runtime = cls.on(gpu, trt, folder, manifest, rows=rows, share=share, limit=limit, cache=cache)
        except BaseException:
            gpu.close()
            raise
        return runtime

    @classmethod
    def on(
        cls,
        device: Device,
        trt: Any,
        folder: Path,
        manifest: Manifest,
        *,
        rows: int | None = None,
        share: float | None = None,
        limit: float = 30.0,
        cache: Keepsake | None = None,
    ) -> Self:
        """On a device that is open already, with a TensorRT that is imported already."""
        plan = check_plan(
            manifest, flavour=trt.__name__, version=trt.__version__, capability=device.capability
        )
        free, total = device.memory()
        weights = manifest.files[plan.file].bytes
        if weights > free:
            raise EngineTooLarge(
                f"the plan takes {weights:,} bytes, {device.name} has {free:,} free of {total:,}"
            )
        loaded = LoadedPlan.load(trt, folder / plan.file, plan)
        layout, vocabulary = CacheLayout.of(manifest), manifest.sizes.vocab_size
        hidden = manifest.sizes.hidden if loaded.has("hidden") else 0
        most, prefill = profile(plan, "decode").batch[2], profile(plan, "prefill")
        needs = Needs(
            weights=max(weights, free - device.memory()[0]),
            workspace=loaded.workspace(),
            per_slot=layout.slot_bytes_everywhere,
            fixed=Sizes.of(most, vocabulary, layout, prefill, hidden).fixed,
            graphs=len(decode_buckets(most)),
        )
        memory = GpuMemoryPlan.fit(needs, total=total, free=free, most_slots=most, rows=rows, share=share)
        log.info("%s: %s", device.name, memory)
        sizes = Sizes.of(memory.slots, vocabulary, layout, prefill, hidden)
        return cls(device, loaded, sizes, memory, limit, cache)

    def prefill(self, slots: range, tokens: Sequence[Tokens], starts: Tokens) -> None:
        self._device.bind()
        for part in prefill_launches(
            [len(ids) for ids in tokens],
            starts.tolist(),
            chunk=self._sizes.chunk,
            rows=self._sizes.rows,
            capacity=self._sizes.layout.capacity,
        ):
            first, rows = slots.start + part.first, len(part.pieces)
            row = self._steps.prefill(first, part, tokens, starts)
            self._row_of[first : first + rows] = np.arange(row, row + rows)

    def decode(self, tokens: Tokens, positions: Tokens) -> None:
        self._device.bind()
        self._steps.decode(tokens, positions)
        self._row_of[: len(tokens)] = np.arange(len(tokens))

    def sample(self, table: Table, allowed: Bits | None = None, seen: Bits | None = None) -> "PendingDraws":
        self._device.bind()
        frame, count, buffers = self._draws.take(), len(table), self._buffers
        rows = table.copy()
        rows["logits"] = self._row_of[table["logits"]]
        arrays: dict[str, Host] = {"choices": rows}
        arrays |= {name: bits for name, bits in (("allowed", allowed), ("seen", seen)) if bits is not None}
        at = stage(self._device, frame, buffers.sampling, arrays)
        launch(
            self._device,
            *("sample", (count, 1, 1), 1024 if self.vocab_size >= 8192 else 256),
            *(buffers.logits, np.int32(self.vocab_size), at.get("allowed", 0), at.get("seen", 0)),
            *(at["choices"], buffers.draws, buffers.latest),
        )
        results = frame.host[self._sizes.sampling :][: count * DRAW.itemsize]
        self._device.download(results, buffers.draws)
        frame.done = self._device.record()
        return PendingDraws(frame.done, results, self._limit)

    def finish(self) -> None:
        self._device.bind()
        wait_until(self._device.record().query, self._limit)

    def leave(self) -> None:
        self._device.unbind()

    def logits(self, slots: range) -> Logits:
        return self._rows(slots, self._buffers.logits, self._sizes.vocab_size)

    def hidden(self, slots: range) -> Hidden:
        return self._rows(slots, self._buffers.hidden, self._sizes.hidden_size)

    def _rows(self, slots: range, address: int, size: int) -> NDArray[np.float32]:
        """A copy of the slots' rows of `size` elements at `address`."""
        self._device.bind()
        width = 4 * size
        for i, row in enumerate(self._row_of[slots.start : slots.stop].tolist()):
            self._device.download(self._readback[i * width : (i + 1) * width], address + row * width)
        self.finish()
        return self._readback[: len(slots) * width].view(np.float32).reshape(len(slots), size).copy()

    def copy_slot(self, source: int, target: int, length: int) -> None:
        self._device.bind()
        layout = self._sizes.layout
        words = layout.prefix_words(length)
        if words:
            launch(
                self._device,
                *("copy_slot", (min(64, -(-words // 256)), layout.heads, 2 * layout.layers), 256),
                *(self._buffers.tables, np.int64(layout.offset(source)), np.int64(layout.offset(target))),
                *(np.int64(layout.head_bytes), np.int32(words)),
            )

    def clear_slot(self, slot: int) -> None:
        self._device.bind()
        layout = self._sizes.layout
        for address in self._buffers.caches.values():
            self._device.clear(address + layout.offset(slot), layout.slot_bytes)

    def close(self) -> None:
        if answers(self._device, self._limit):
            self._steps.close()
            del self._draws, self._readback
        else:
            keep_for_ever(self)
        self._device.close()

    def _warm_up(self) -> None:
        """Run the kernels that steps have not run yet: drivers load each one when it is first used."""
        self.sample(choice_table([Sampling(1.0, top_k=2, top_p=0.5)], [0], [0])).wait()
        self.copy_slot(0, self.slots - 1, 1)
        self.finish()


class PendingDraws:
    """What the sampling kernel will have drawn."""

    def __init__(self, event: Event, results: Host, limit: float) -> None:
        self._event, self._results, self._limit = event, results, limit

    def wait(self) -> Table:
        """One DRAW per row that was asked for. Raises StepHung, and what went wrong in the steps before."""
        wait_until(self._event.query, self._limit)
        return self._results.view(DRAW).copy()
