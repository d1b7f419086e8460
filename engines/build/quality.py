"""What quantization costs: the built graph against fp32 on held-out text."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from engines.build.checkpoint import Checkpoint
from engines.build.layerwise import LayerRun, embedded, final
from engines.build.windows import Windows

Floats = NDArray[np.float32]


class Reference:
    """What fp32 answers to held-out text, layer by layer; only the last hidden states that count are kept."""

    def __init__(
        self, source: Checkpoint, text: Windows, scratch: Path, progress: Callable[[int, int], None]
    ) -> None:
        """`scratch`: a folder for one layer at a time; progress(layers done, layers)."""
        self._source, self._text = source, text
        states = list(embedded(source, text))
        for index in range(source.config.layers):
            layer = LayerRun(source, index, {}, scratch)
            states = [layer.run(state)[0] for state in states]
            progress(index + 1, source.config.layers)
        self._hidden = [
            final(source, state)[np.flatnonzero(window.counted[1:])]
            for window, state in zip(text, states, strict=True)
        ]

    def measure(self, graph: Path) -> dict[str, Any]:
        """Perplexity of both, and how far the graph's next-token distributions are from fp32's.

        `graph` is a fused (or float32 standard) graph. tokens: counted ones that were predicted; kl_*:
        Kullback-Leibler divergence from fp32 in nats per token; same_token: share of them where both would
        pick the same token greedily.
        """
        session = _Session(self._source, graph)
        divergences, losses, same = [], [], 0
        for window, hidden in zip(self._text, self._hidden, strict=True):
            steps = np.flatnonzero(window.counted[1:])
            expected = _log_softmax(_logits(self._source, hidden))
            found = _log_softmax(session.logits(window.ids, steps))
            nexts = window.ids[steps + 1]
            divergences.append((np.exp(expected) * (expected - found)).sum(-1))
            losses.append([-logs[np.arange(len(steps)), nexts].sum() for logs in (expected, found)])
            same += int((expected.argmax(-1) == found.argmax(-1)).sum())
        kl = np.concatenate(divergences)
        tokens = len(kl)
        reference, quantized = (float(total) / tokens for total in np.sum(losses, axis=0))
        return {
            "tokens": tokens,
            "perplexity_fp32": math.exp(reference),
            "perplexity": math.exp(quantized),
            "perplexity_change": math.expm1(quantized - reference),
            "kl_mean": float(kl.mean()),
            "kl_p99": float(np.quantile(kl, 0.99)),
            "same_token": same / tokens,
        }


def _log_softmax(logits: Floats) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    answer: NDArray[np.float64] = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    return answer


def _logits(source: Checkpoint, hidden: Floats) -> Floats:
    parameters = source.parameters
    matrix = parameters.head.weight if parameters.head else parameters.embedding
    return np.concatenate([hidden @ rows.T for rows in matrix.chunks(source.tensors)], axis=-1)


class _Session:
    """The built graph, one row at a time."""

    def __init__(self, source: Checkpoint, graph: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(graph), options)
        self._heads, self._width = source.config.kv_heads, source.parameters.layout.width
        self._layers = source.config.layers

    def logits(self, window: NDArray[np.int64], wanted: NDArray[np.int64]) -> Floats:
        """[P, V] of the `wanted` P tokens of one row."""
        steps = np.arange(len(window))[None]
        feeds: dict[str, Any] = {
            "input_ids": window[None],
            "position_ids": steps,
            "logit_positions": wanted[None],
            "lengths": np.array([len(window)]),
            "write_index": np.array([0]),
        }
        empty = np.zeros((1, self._heads, len(window), self._width), np.float32)
        for layer in range(self._layers):
            feeds |= {f"past_key_{layer}": empty, f"past_value_{layer}": empty}
        answer: Floats = self._session.run(["logits"], feeds)[0][0]
        return answer
