"""A model run one layer at a time, so that only one layer's weights are ever in memory.

Both calibration (what goes into every weight) and the report (what fp32 would have answered) use it.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from engines.build.checkpoint import Checkpoint
from engines.build.graph.builder import GraphBuilder
from engines.build.graph.fused import Fused
from engines.build.graph.model import block
from engines.build.parameters import Linear, Mixture
from engines.build.recipe import Recipe
from engines.build.weights import Matrix, finite
from engines.build.windows import Windows

Floats = NDArray[np.float32]


@dataclass
class State:
    """One row between two layers: residual stream and the branch still to be added to it, [1, T, hidden]."""

    residual: Floats
    branch: Floats


@dataclass(frozen=True)
class Tap:
    """Where a weight's input can be seen: the graph's value, and for experts the value of their weights."""

    value: str
    linear: Linear | None = None
    mixture: Mixture | None = None
    shares: str = ""


class _Recorder(Fused):
    """Writes fp32 layers, some weights replaced, and remembers every weight's input."""

    def prepare(self, replaced: Mapping[str, Floats]) -> None:
        self.replaced, self.taps = replaced, list[Tap]()

    def read(self, matrix: Matrix) -> Floats:
        return self.replaced[matrix.name] if matrix.name in self.replaced else super().read(matrix)

    def linear(self, x: str, linear: Linear) -> str:
        self.taps.append(Tap(x, linear=linear))
        return super().linear(x, linear)

    def mix(self, x: str, weights: str, mixture: Mixture) -> str:
        self.taps.append(Tap(x, mixture=mixture, shares=weights))
        return super().mix(x, weights, mixture)


class LayerRun:
    """Layer `index` as a session; `replaced` has float32 [N, K] to use instead of the file's, by name.

    Its graph lies in the folder `scratch` while it is loaded.
    """

    def __init__(self, source: Checkpoint, index: int, replaced: Mapping[str, Floats], scratch: Path) -> None:
        config = source.config
        self._cache = (1, config.kv_heads, source.parameters.layout.width)
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            path = Path(folder) / "layer.onnx"
            with GraphBuilder(path) as b:
                writer = _Recorder(b, source.parameters, source.tensors, Recipe("fp32"))
                writer.prepare(replaced)
                self.taps = _write(b, writer, index)
                b.save()
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            self._session = onnxruntime.InferenceSession(str(path), options)

    def run(self, state: State) -> tuple[State, dict[str, Floats]]:
        """The state after the layer, and the tapped values."""
        batch, heads, width = self._cache
        empty = np.zeros((batch, heads, state.residual.shape[1], width), np.float32)
        feeds = {
            "residual": state.residual,
            "branch": state.branch,
            "lengths": np.array([state.residual.shape[1]]),
            "write_index": np.array([0]),
        }
        feeds |= dict.fromkeys(("past_key_0", "past_value_0"), empty)
        names = [output.name for output in self._session.get_outputs()]
        values = dict(zip(names, self._session.run(None, feeds), strict=True))
        return State(values["next_residual"], values["next_branch"]), values


def _write(b: GraphBuilder, writer: _Recorder, index: int) -> list[Tap]:
    config, row = writer.parameters.config, ("B", "T", writer.parameters.config.hidden)
    ends = [b.input(name, "float32", row) for name in ("residual", "branch")]
    for name in ("lengths", "write_index"):
        b.input(name, "int64", "B")
    for name in ("past_key_0", "past_value_0"):
        b.input(name, "float32", ("B", config.kv_heads, "S", writer.parameters.layout.width))
    writer.begin()
    answers = block(writer, ends[0], ends[1], writer.parameters.layers[index], 0)
    for name, answer in zip(("next_residual", "next_branch"), answers, strict=True):
        b.nodes("Identity", [answer], [b.output(name, "float32", row)])
    for value in {name for tap in writer.taps for name in (tap.value, tap.shares) if name}:
        b.output(value, "float32", None)
    return writer.taps


def embedded(source: Checkpoint, text: Windows) -> Iterator[State]:
    """The states before the first layer."""
    name = source.parameters.embedding.name
    rows = source.tensors.read(name)
    for window in text:
        residual = finite(name, np.asarray(rows[window.ids], np.float32))[None]
        yield State(residual, np.zeros_like(residual))


def final(source: Checkpoint, state: State) -> Floats:
    """Normed hidden states [T, hidden], what the head is applied to."""
    total = (state.residual + state.branch)[0]
    scale = np.sqrt(np.square(total).mean(-1, keepdims=True) + source.config.norm_epsilon)
    answer: Floats = total / scale * source.parameters.norm.values(source.tensors)
    return answer
