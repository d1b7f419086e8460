"""Calibration: quantize layer after layer, each for the inputs it will really see."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.build.checkpoint import Checkpoint
from engines.build.gptq import gptq
from engines.build.layerwise import LayerRun, Tap, embedded
from engines.build.quantize import Format, Quantized, round_to_nearest
from engines.build.recipe import Recipe, Solution
from engines.build.weights import Matrix
from engines.build.windows import Windows

Floats = NDArray[np.float32]
_FEW = 16  # tokens an expert must have seen for their statistics to be worth more than none


@dataclass
class _Moments:
    """Second moments and largest magnitudes of the inputs of one layer's weights, by matrix name."""

    sums: dict[str, Floats] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)

    def add(self, matrix: Matrix, inputs: Floats) -> None:
        """inputs [tokens, K]."""
        rows = inputs.reshape(-1, matrix.shape[1])
        if not len(rows):
            return
        moment, name = rows.T @ rows, matrix.name
        if name in self.sums:
            self.sums[name] += moment
        else:
            self.sums[name] = moment
        self.tokens[name] = self.tokens.get(name, 0) + len(rows)
        self.peaks[name] = max(self.peaks.get(name, 0.0), float(np.abs(rows).max()))


def calibrate(
    source: Checkpoint, recipe: Recipe, windows: Windows, scratch: Path, progress: Callable[[int, int], None]
) -> Solution:
    """Quantize all layers with GPTQ on the windows of token ids, keeping the answers in the folder `scratch`.

    Every layer is solved on what the quantized layers before it give; progress(layers done, layers).
    """
    solution = Solution(scratch)
    states = list(embedded(source, windows))
    for index in range(source.config.layers):
        plain = LayerRun(source, index, {}, scratch)
        moments = _Moments()
        for state in states:
            _, values = plain.run(state)
            for tap in plain.taps:
                _observe(source, moments, tap, values)
        taps = plain.taps
        del plain
        replaced: dict[str, Floats] = {}
        for tap in taps:
            for matrix, form in _weights(recipe, tap):
                answer = _solve(source, moments, matrix, form)
                solution.keep(matrix, answer, moments.peaks.get(matrix.name, 0.0))
                replaced[matrix.name] = answer.dequantized()
        rounded = LayerRun(source, index, replaced, scratch)
        states = [rounded.run(state)[0] for state in states]
        progress(index + 1, source.config.layers)
    return solution


def _observe(source: Checkpoint, moments: _Moments, tap: Tap, values: dict[str, Floats]) -> None:
    if tap.linear:
        moments.add(tap.linear.weight, values[tap.value])
    if tap.mixture:
        tokens, shares = values[tap.value], values[tap.shares]
        for expert, mlp in enumerate(tap.mixture.experts):
            seen = tokens[shares[:, expert] > 0]
            if len(seen):
                moments.add(mlp.gate_up.weight, seen)
                moments.add(mlp.down.weight, _gated(seen @ mlp.gate_up.weight.rows(source.tensors).T))


def _gated(gate_up: Floats) -> Floats:
    gate, up = np.split(gate_up, 2, axis=-1)
    activated: Floats = gate / (1 + np.exp(-gate)) * up
    return activated


def _weights(recipe: Recipe, tap: Tap) -> list[tuple[Matrix, Format]]:
    """The tapped weights that are to be quantized, with their formats."""
    if tap.linear:
        form = recipe.format(tap.linear.weight, "linear")
        return [(tap.linear.weight, form)] if form else []
    assert tap.mixture is not None
    return [
        (matrix, form)
        for expert in tap.mixture.experts
        for matrix in (expert.gate_up.weight, expert.down.weight)
        if (form := recipe.expert_format(tap.mixture))
    ]


def _solve(source: Checkpoint, moments: _Moments, matrix: Matrix, form: Format) -> Quantized:
    weight = matrix.rows(source.tensors)
    if moments.tokens.get(matrix.name, 0) < _FEW:
        return round_to_nearest(weight, form)
    return gptq(weight, moments.sums.pop(matrix.name), form)
