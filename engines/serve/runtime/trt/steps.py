"""Steps on one stream: inputs staged, caches bound by offset, decoding captured per bucket."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from engines.errors import GpuFailed
from engines.keepsake import Keepsake
from engines.serve.runtime.contract import Tokens
from engines.serve.runtime.trt.buckets import bucket_for, decode_buckets
from engines.serve.runtime.trt.buffers import Buffers, Sizes
from engines.serve.runtime.trt.chunks import Launch
from engines.serve.runtime.trt.device import Device, launch
from engines.serve.runtime.trt.frames import Frames, stage
from engines.serve.runtime.trt.layout import aligned
from engines.serve.runtime.trt.plan import LoadedPlan
from engines.serve.runtime.trt.watchdog import wait_until

_IN_FLIGHT = 3  # frames: two steps run or wait, the third is being filled
_FIRST = 600.0  # seconds that the first steps may take, which compile
_DECODE = ("given", "position_ids", "write_index", "lengths", "logit_positions")


class Steps:
    """Enqueues; never waits but for a frame. limit: seconds that a step may take. kept: kernels that
    an earlier start compiled."""

    def __init__(
        self,
        device: Device,
        loaded: LoadedPlan,
        sizes: Sizes,
        buffers: Buffers,
        limit: float,
        kept: Keepsake | None,
    ) -> None:
        self._device, self._loaded, self._sizes, self._buffers = device, loaded, sizes, buffers
        self._layout, self._limit = sizes.layout, limit
        self._inputs = loaded.inputs
        size = loaded.workspace()
        workspace = device.allocate(size)
        compiled = loaded.runtime_cache(kept.read() if kept else b"")
        self._decoding = loaded.context(device, "decode", workspace, size, compiled)
        self._prefilling = loaded.context(device, "prefill", workspace, size, compiled)
        self._frames = Frames(device, max(sizes.decode, sizes.prefill), _IN_FLIGHT, limit)
        self._buckets = decode_buckets(sizes.slots)
        self._bound = 0  # bucket the decode context is bound to
        self._captured: dict[int, Callable[[], None]] = {}
        self._warm_up()
        if compiled is not None and kept is not None:
            kept.keep(compiled.serialize())

    def decode(self, tokens: Tokens, positions: Tokens) -> None:
        """Logits of slot s become row s."""
        bucket = bucket_for(len(tokens), self._buckets)
        self._stage_decode(bucket, tokens, positions)
        self._captured.get(bucket, lambda: self._run_decode(bucket))()

    def prefill(self, first: int, part: Launch, tokens: Sequence[Tokens], starts: Tokens) -> int:
        """Rows of `part` into slots `first`...; returns the row of the first one's logits."""
        rows, width = len(part.pieces), part.width
        ids = np.zeros((rows, width), np.int64)
        begins, lengths = np.empty(rows, np.int64), np.empty(rows, np.int64)
        for i, (begin, stop) in enumerate(part.pieces):
            ids[i, : stop - begin] = tokens[part.first + i][begin:stop]
            begins[i], lengths[i] = starts[part.first + i] + begin, stop - begin
        arrays = {
            "input_ids": ids,
            # Padding needs a position inside the tables; which one does not matter.
            "position_ids": np.minimum(begins[:, None] + np.arange(width), self._layout.capacity - 1),
            "write_index": begins,
            "lengths": lengths,
            "logit_positions": lengths - 1,
        }
        frame = self._frames.take()
        at = stage(self._device, frame, self._buffers.prefill, arrays)
        frame.done = self._device.record()
        row = first * self._sizes.stride
        self._bind(self._prefilling, at, first, rows, width, row)
        self._execute(self._prefilling)
        return row

    def close(self) -> None:
        self._captured.clear()
        del self._decoding, self._prefilling, self._loaded

    def _warm_up(self) -> None:
        """Run every bucket once: what is compiled, allocated or captured is so before the first request."""
        none = np.zeros(0, np.int64)
        for bucket in self._buckets:
            self._stage_decode(bucket, none, none)
            self._run_decode(bucket)
            wait_until(self._device.record().query, max(self._limit, _FIRST))
            if not self._loaded.own_graphs:
                self._captured[bucket] = self._device.capture(lambda size=bucket: self._run_decode(size))  # type: ignore[misc]
        one = np.zeros(1, np.int64)
        self.prefill(0, Launch(0, ((0, 1),), 1), [one], one)
        wait_until(self._device.record().query, max(self._limit, _FIRST))

    def _stage_decode(self, bucket: int, tokens: Tokens, positions: Tokens) -> None:
        """Rows that nobody asked for write to the last cell, which no row uses."""
        ids, at = np.zeros(bucket, np.int64), np.full(bucket, self._layout.capacity - 1)
        ids[: len(tokens)], at[: len(tokens)] = tokens, positions
        values = (ids, at, at, np.ones(bucket, np.int64), np.zeros(bucket, np.int64))
        frame = self._frames.take()
        stage(self._device, frame, self._buffers.decode, dict(zip(_DECODE, values, strict=True)))
        frame.done = self._device.record()

    def _run_decode(self, bucket: int) -> None:
        """Enqueue a step of what is staged; every address follows from the bucket, so it can be captured."""
        gap = aligned(8 * bucket)
        at = {name: self._buffers.decode + i * gap for i, name in enumerate(_DECODE)}
        at["input_ids"] = self._buffers.ids
        launch(
            self._device,
            *("feed", (-(-bucket // 256), 1, 1), 256),
            *(self._buffers.ids, at["given"], self._buffers.latest, np.int32(bucket)),
        )
        if bucket != self._bound:
            self._bind(self._decoding, at, 0, bucket, 1, 0)
            self._bound = bucket
        self._execute(self._decoding)

    def _bind(
        self, context: Any, inputs: dict[str, int], first: int, rows: int, width: int, row: int
    ) -> None:
        """Shapes and addresses of a step over slots [first, first + rows); answers go to `row`..."""
        layout, accepted = self._layout, True
        shapes = {"input_ids": (rows, width), "position_ids": (rows, width), "logit_positions": (rows, 1)}
        for name in self._inputs:
            accepted &= context.set_input_shape(name, shapes.get(name, (rows,)))
            accepted &= context.set_tensor_address(name, inputs[name])
        cache = (rows, layout.heads, layout.capacity, layout.width)
        for name, base in self._buffers.caches.items():
            address = base + layout.offset(first)
            accepted &= context.set_input_shape(f"past_{name}", cache)
            accepted &= context.set_tensor_address(f"past_{name}", address)
            accepted &= context.set_tensor_address(f"present_{name}", address)
        buffers, sizes = self._buffers, self._sizes
        accepted &= context.set_tensor_address("logits", buffers.logits + 4 * sizes.vocab_size * row)
        if sizes.hidden_size:
            accepted &= context.set_tensor_address("hidden", buffers.hidden + 4 * sizes.hidden_size * row)
        if not accepted:
            raise GpuFailed(f"TensorRT refuses a step of {rows} rows: {self._loaded.logger.last}")

    def _execute(self, context: Any) -> None:
        if not context.execute_async_v3(self._device.stream):
            raise GpuFailed(f"{self._device.name} failed a step: {self._loaded.logger.last}")
