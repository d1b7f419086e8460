"""Run a built graph row by row, as plainly as possible: ONNX Runtime's `run`, caches copied in and out."""

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engines.manifest import Manifest

Ints = NDArray[np.int64]


class Rows:
    """Caches of `count` rows over one graph of an engine folder."""

    def __init__(self, folder: Path, dialect: str, count: int, capacity: int) -> None:
        self.manifest = Manifest.load(folder)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # TensorScatter warns of the copies that come with plain `run`
        self._session = onnxruntime.InferenceSession(str(folder / self.manifest.graphs[dialect]), options)
        self._outputs = [output.name for output in self._session.get_outputs()]
        sizes = self.manifest.sizes
        shape = (count, sizes.kv_heads, capacity, sizes.head_dim)
        names = [f"past_{kind}_{i}" for i in range(sizes.layers) for kind in ("key", "value")]
        self._caches = {name: np.zeros(shape, np.float32) for name in names}
        self._written = np.zeros(count, np.int64)

    def step(self, tokens: list[list[int]]) -> list[NDArray[np.float32]]:
        """Append each row's tokens (at least one) to its cache; logits [tokens, V] of each row."""
        lengths = np.array([len(row) for row in tokens])
        width = int(lengths.max())
        ids = np.array([row + [0] * (width - len(row)) for row in tokens], np.int64)
        steps = np.broadcast_to(np.arange(width), ids.shape)
        feeds = {
            "input_ids": ids,
            "position_ids": np.minimum(self._written[:, None] + steps, self.manifest.sizes.context - 1),
            "lengths": lengths,
            "write_index": self._written,
            "logit_positions": np.ascontiguousarray(steps),
        }
        values = self.values = dict(
            zip(self._outputs, self._session.run(None, feeds | self._caches), strict=True)
        )
        self._caches = {name: values[name.replace("past", "present")] for name in self._caches}
        self._written = self._written + lengths
        return [logits[:count] for logits, count in zip(values["logits"], lengths, strict=True)]
