"""The CPU runtime: ONNX Runtime, caches allocated once and bound in place."""

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from engines.manifest import Dialect, Manifest
from engines.serve.kernels.table import Table
from engines.serve.runtime.contract import Bits, Hidden, Logits, Tokens
from engines.serve.sampler import draw

_CALL_TOKENS = 16  # a call costs about as much as this many tokens more, from 1 M to 1.5 B parameters
_INT8_ACTIVATIONS = "4"  # of MatMulNBits: integer dot products, activations rounded per block


class OrtRuntime:
    """See Runtime. A call binds slots [i, i + k) by pointer offset; nothing of a cache is ever copied."""

    depth = 1

    def __init__(
        self,
        graph: Path,
        *,
        cache_shapes: Sequence[tuple[int, int]],
        vocab_size: int,
        slots: int,
        capacity: int,
        threads: int | None = None,
        spinning: bool = False,
    ) -> None:
        """cache_shapes: (heads, head_dim) of each layer."""
        self.slots, self.capacity, self.vocab_size = slots, capacity, vocab_size
        self._session = onnxruntime.InferenceSession(
            str(graph), _options(threads, spinning), providers=["CPUExecutionProvider"]
        )
        wanted = {value.name for value in self._session.get_inputs()}
        self._caches: dict[str, NDArray[np.float32]] = {}
        for layer, (heads, width) in enumerate(cache_shapes):
            for kind in ("key", "value"):
                name = f"{kind}_{layer}"
                self._caches[name] = np.zeros((slots, heads, capacity, width), np.float32)
        self._small = [name for name in _SMALL if name in wanted]
        self._latest = np.zeros(slots, np.int64)
        self._ones = np.ones(slots, np.int64)
        self._zeros = np.zeros((slots, 1), np.int64)
        self._logits = np.empty((slots, 1, vocab_size), np.float32)
        # Engines built before graphs gave hidden states serve everything else.
        shapes = {value.name: value.shape for value in self._session.get_outputs()}
        self.hidden_size: int | None = shapes["hidden"][-1] if "hidden" in shapes else None
        self._hidden = np.empty((slots, 1, self.hidden_size or 0), np.float32)
        self._bindings: dict[tuple[int, int], Any] = {}

    @classmethod
    def open(
        cls,
        folder: Path,
        manifest: Manifest,
        *,
        slots: int,
        capacity: int,
        dialect: Dialect | None = None,
        threads: int | None = None,
        spinning: bool = False,
    ) -> Self:
        """Load the engine folder's graph, by default in the manifest's own dialect."""
        dialect = dialect or manifest.dialect
        return cls(
            folder / manifest.graphs[dialect],
            cache_shapes=[(manifest.sizes.kv_heads, manifest.sizes.head_dim)] * manifest.sizes.layers,
            vocab_size=manifest.sizes.vocab_size,
            slots=slots,
            capacity=capacity,
            threads=threads,
            spinning=spinning,
        )

    def prefill(self, slots: range, tokens: Sequence[Tokens], starts: Tokens) -> None:
        lengths = np.array([len(ids) for ids in tokens], np.int64)
        for group in groups(lengths.tolist(), _CALL_TOKENS):
            self._prefill(
                slots.start + group.start, tokens[group.start : group.stop], starts[group], lengths[group]
            )

    def _prefill(self, first: int, tokens: Sequence[Tokens], starts: Tokens, lengths: Tokens) -> None:
        width = int(lengths.max())
        # Padding needs room in a row's cache: standard graphs write it, fused ones refuse to run without.
        if len(tokens) > 1 and int(starts.max()) + width > self.capacity:
            for i in range(len(tokens)):
                one = slice(i, i + 1)
                self._prefill(first + i, tokens[i : i + 1], starts[one], lengths[one])
            return
        padded = np.zeros((len(tokens), width), np.int64)
        for row, ids in zip(padded, tokens, strict=True):
            row[: len(ids)] = ids
        # Padding needs a position inside the tables; which one does not matter.
        positions = np.minimum(starts[:, None] + np.arange(width), self.capacity - 1)
        self._run(first, padded, positions, starts, lengths, (lengths - 1)[:, None])

    def decode(self, tokens: Tokens, positions: Tokens) -> None:
        rows = len(tokens)
        if tokens.min() < 0:
            tokens = np.where(tokens < 0, self._latest[-1 - np.minimum(tokens, -1)], tokens)
        column = positions[:, None]
        self._run(0, tokens[:, None], column, positions, self._ones[:rows], self._zeros[:rows])

    def sample(self, table: Table, allowed: Bits | None = None, seen: Bits | None = None) -> "Drawn":
        draws = draw(self._logits[:, 0], table, allowed, seen)
        kept = table["slot"] >= 0
        self._latest[table["slot"][kept]] = np.maximum(draws["token"][kept], 0)
        return Drawn(draws)

    def finish(self) -> None:
        pass  # nothing is ever left running

    def leave(self) -> None:
        pass  # any thread may call it

    def logits(self, slots: range) -> Logits:
        return self._logits[slots.start : slots.stop, 0].copy()

    def hidden(self, slots: range) -> Hidden:
        return self._hidden[slots.start : slots.stop, 0].copy()

    def copy_slot(self, source: int, target: int, length: int) -> None:
        for cache in self._caches.values():
            cache[target, :, :length] = cache[source, :, :length]

    def clear_slot(self, slot: int) -> None:
        for cache in self._caches.values():
            cache[slot] = 0

    def close(self) -> None:
        self._bindings.clear()
        self._caches.clear()
        self._session = None

    def _run(
        self, first: int, ids: Tokens, positions: Tokens, starts: Tokens, lengths: Tokens, wanted: Tokens
    ) -> None:
        rows = len(ids)
        binding = self._bindings.get((first, rows))
        if binding is None:
            binding = self._bindings[first, rows] = self._bind(first, rows)
        values = {
            "input_ids": ids,
            "position_ids": positions,
            "write_index": starts,
            "lengths": lengths,
            "logit_positions": wanted,
        }
        held = [np.ascontiguousarray(values[name]) for name in self._small]
        for name, value in zip(self._small, held, strict=True):
            binding.bind_input(name, "cpu", 0, np.int64, value.shape, value.ctypes.data)
        self._session.run_with_iobinding(binding)

    def _bind(self, first: int, rows: int) -> Any:
        """Caches, logits and hidden states of slots [first, first + rows); these stay where they are."""
        binding = self._session.io_binding()
        for name, cache in self._caches.items():
            part = cache[first : first + rows]
            place = ("cpu", 0, np.float32, part.shape, part.ctypes.data)
            binding.bind_input(f"past_{name}", *place)
            binding.bind_output(f"present_{name}", *place)
        answers = {"logits": self._logits} | ({"hidden": self._hidden} if self.hidden_size else {})
        for name, whole in answers.items():
            part = whole[first : first + rows]
            binding.bind_output(name, "cpu", 0, np.float32, part.shape, part.ctypes.data)
        return binding


def groups(lengths: Sequence[int], call: int) -> list[slice]:
    """Cut neighbouring rows into calls so that little is spent on padding and on calls.

    call: what a further call costs, in tokens; a call of n rows pads all of them to the longest.
    """
    cuts, longest = [0], 0
    for i, length in enumerate(lengths):
        rows = i - cuts[-1]
        if rows and (rows + 1) * max(longest, length) > rows * longest + length + call:
            cuts.append(i)
            longest = 0
        longest = max(longest, length)
    return [slice(a, b) for a, b in pairwise([*cuts, len(lengths)])]


class Drawn:
    """Draws that are done already."""

    def __init__(self, draws: Table) -> None:
        self._draws = draws

    def wait(self) -> Table:
        return self._draws


_SMALL = ("input_ids", "position_ids", "write_index", "lengths", "logit_positions")


def _options(threads: int | None, spinning: bool) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    # Waiting threads that spin take the cores of whoever else serves the requests: with busy neighbours
    # a step takes 2 to 3 times as long, and on idle cores spinning wins nothing.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", _INT8_ACTIVATIONS)
    options.log_severity_level = 3
    return options
