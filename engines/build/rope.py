"""Rotary position embedding: its parameters in config.json and its tables.

Formulas: RoFormer (arXiv:2104.09864) and YaRN (arXiv:2309.00071), with the float32 rounding of the
reference implementation (inverse frequency first, then position times frequency).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.build.fields import Fields
from engines.errors import UnsupportedModel

_KINDS = ("default", "linear", "yarn", "llama3")


@dataclass(frozen=True)
class Rope:
    """`dims` leading (or trailing, for latent attention) elements of each head are rotated.

    share: elements that the head's partial factor asks for; an odd number's last pair takes one more.
    """

    share: int
    theta: float
    interleaved: bool
    kind: str = "default"
    factor: float = 1.0
    original_context: int = 0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    low_factor: float = 1.0
    high_factor: float = 4.0
    truncate: bool = True
    magnitude: float = 1.0
    softmax_magnitude: float = 1.0

    @property
    def dims(self) -> int:
        return self.share + self.share % 2

    def reach(self, context: int) -> int:
        """Positions there are: `context`, or what YaRN lengthens it to (model cards tell to add that beside
        the context as it was trained)."""
        return max(context, int(self.factor * self.original_context)) if self.kind == "yarn" else context

    def tables(self, context: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """cos and sin of shape [context, dims / 2]."""
        angles = np.arange(context, dtype=np.float32)[:, None] * self._frequencies()[None, :]
        scale = np.float32(self.magnitude)
        return np.cos(angles) * scale, np.sin(angles) * scale

    def _frequencies(self) -> NDArray[np.float32]:
        exponent = np.arange(0, self.dims, 2, dtype=np.float32) / np.float32(self.share)
        base: NDArray[np.float32] = (1.0 / np.power(np.float32(self.theta), exponent)).astype(np.float32)
        if self.kind == "linear":
            return base / np.float32(self.factor)
        if self.kind == "yarn":
            return self._yarn(base)
        if self.kind == "llama3":
            return self._llama3(base)
        return base

    def _yarn(self, base: NDArray[np.float32]) -> NDArray[np.float32]:
        def index(rotations: float) -> float:
            wavelength = self.original_context / (rotations * 2 * math.pi)
            return self.dims * math.log(wavelength) / (2 * math.log(self.theta))

        low, high = index(self.beta_fast), index(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, self.dims - 1)
        if low == high:
            high += 0.001  # the ramp would divide by zero
        ramp = np.clip((np.arange(self.dims // 2, dtype=np.float32) - low) / (high - low), 0, 1)
        scaled: NDArray[np.float32] = (base / self.factor * ramp + base * (1 - ramp)).astype(np.float32)
        return scaled

    def _llama3(self, base: NDArray[np.float32]) -> NDArray[np.float32]:
        turns = self.original_context * base / (2 * math.pi)
        blend = np.clip((turns - self.low_factor) / (self.high_factor - self.low_factor), 0, 1)
        scaled: NDArray[np.float32] = (base * blend + base / self.factor * (1 - blend)).astype(np.float32)
        return scaled


def parse_rope(config: Fields, width: int, share: float, *, interleaved: bool, context: int) -> Rope:
    """Read `rope_parameters`, or the older `rope_theta`, `partial_rotary_factor` and `rope_scaling`, which
    counts where both say something, as in the reference implementation.

    `width` is the head size the partial factor applies to, `share` that factor where none is given.
    Raises UnsupportedModel for a rope type that is not built, CheckpointError for a wrong value.
    """
    values: dict[str, Any] = {k: config.raw(k) for k in ("rope_theta", "partial_rotary_factor")}
    for key in ("rope_parameters", "rope_scaling"):
        extra = config.raw(key)
        if extra is not None and not isinstance(extra, dict):
            raise UnsupportedModel(f"config.json: {key} = {extra!r} is not supported; it must be an object")
        said = {k: v for k, v in (extra or {}).items() if v is not None}
        values |= said | {"rope_type": said.get("rope_type") or said.get("type") or values.get("rope_type")}
    values["rope_type"] = values["rope_type"] or "default"
    fields = Fields(values, "config.json: rope_parameters")
    fields.only("rope_type", *_KINDS)
    factor = fields.number("factor", 1.0)
    kind, all_dims = values["rope_type"], fields.number("mscale_all_dim", 0.0, signed=True)
    return Rope(
        share=int(width * fields.number("partial_rotary_factor", share)),
        theta=fields.number("rope_theta", 10000.0),
        interleaved=interleaved,
        kind=kind,
        factor=factor,
        original_context=fields.size("original_max_position_embeddings", context),
        beta_fast=fields.number("beta_fast", 32.0),
        beta_slow=fields.number("beta_slow", 1.0),
        low_factor=fields.number("low_freq_factor", 1.0),
        high_factor=fields.number("high_freq_factor", 4.0),
        truncate=fields.flag("truncate", True),
        magnitude=_magnitude(fields, factor) if kind == "yarn" else 1.0,
        softmax_magnitude=_mscale(factor, all_dims) if kind != "default" else 1.0,
    )


def _mscale(factor: float, weight: float) -> float:
    return 1.0 if factor <= 1 or not weight else 0.1 * weight * math.log(factor) + 1.0


def _magnitude(fields: Fields, factor: float) -> float:
    if fields.raw("attention_factor") is not None:
        return fields.number("attention_factor")
    mscale, all_dims = (fields.number(key, 0.0, signed=True) for key in ("mscale", "mscale_all_dim"))
    if mscale and all_dims:
        return _mscale(factor, mscale) / _mscale(factor, all_dims)
    return _mscale(factor, 1.0)
