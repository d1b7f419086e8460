"""Which checkpoint tensors a model is made of, and how each weight of the graph is cut from them.

Tensor names and shapes are those Hugging Face transformers saves for the GLM families.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from engines.build.config import Experts, Latent, ModelConfig
from engines.build.heads import HeadLayout, head_layout, rotary_pairs
from engines.build.weights import Index, Matrix, Part, Vector


@dataclass(frozen=True)
class Linear:
    """y = x Wᵀ + b."""

    weight: Matrix
    bias: Vector | None = None


@dataclass(frozen=True)
class DenseAttention:
    """Query, key and value heads stacked in that order; norms act on each head."""

    qkv: Linear
    output: Linear
    q_norm: Vector | None
    k_norm: Vector | None


@dataclass(frozen=True)
class LatentAttention:
    """`kv_down` gives the latent and one rotary key for all heads, `kv_up` the heads' keys and values."""

    query_down: Linear | None
    query_norm: Vector | None
    query: Linear
    kv_down: Linear
    kv_norm: Vector
    kv_up: Linear
    output: Linear


@dataclass(frozen=True)
class Mlp:
    """down(silu(gate) * up), gate and up stacked."""

    gate_up: Linear
    down: Linear


@dataclass(frozen=True)
class Mixture:
    """A mixture of experts; `correction` shifts scores for the choice of experts only."""

    router: Linear
    correction: Vector
    experts: tuple[Mlp, ...]
    shared: Mlp | None


@dataclass(frozen=True)
class Layer:
    """One block; the two post norms exist where the family norms a branch's output as well."""

    input_norm: Vector
    attention: DenseAttention | LatentAttention
    attention_post_norm: Vector | None
    mlp_norm: Vector
    mlp: Mlp | Mixture
    mlp_post_norm: Vector | None


@dataclass(frozen=True)
class Parameters:
    """The whole model; `head` is None where it shares the embedding's weight."""

    config: ModelConfig
    layout: HeadLayout
    embedding: Matrix
    layers: tuple[Layer, ...]
    norm: Vector
    head: Linear | None

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Every checkpoint tensor it is cut from, with the shape it must have."""
        return {part.tensor: part.shape for part in _parts(self)}

    def count(self) -> int:
        """Number of parameters."""
        return sum(int(np.prod(shape)) for shape in self.tensors().values())


def describe(config: ModelConfig, *, tied: bool) -> Parameters:
    """The parameters of a checkpoint with this config; `tied`: it has no lm_head of its own."""
    layout = head_layout(config)
    vocabulary = (config.vocab_size, config.hidden)
    return Parameters(
        config=config,
        layout=layout,
        embedding=_matrix("model.embed_tokens.weight", *vocabulary),
        layers=tuple(_layer(config, layout, i) for i in range(config.layers)),
        norm=_vector("model.norm.weight", config.hidden),
        head=None if tied else Linear(_matrix("lm_head.weight", *vocabulary)),
    )


def _layer(config: ModelConfig, layout: HeadLayout, index: int) -> Layer:
    prefix, hidden = f"model.layers.{index}.", config.hidden
    attention = f"{prefix}self_attn."

    def norm(name: str) -> Vector:
        return _vector(f"{prefix}{name}.weight", hidden)

    latent = config.latent
    return Layer(
        input_norm=norm("input_layernorm"),
        attention=_latent(config, latent, layout, attention) if latent else _dense(config, layout, attention),
        attention_post_norm=norm("post_self_attn_layernorm") if config.sandwich else None,
        mlp_norm=norm("post_attention_layernorm"),
        mlp=_mixture(config, config.experts, f"{prefix}mlp.")
        if config.experts and config.is_sparse(index)
        else _mlp(f"{prefix}mlp.", hidden, config.intermediate, fused=config.fused_gate_up),
        mlp_post_norm=norm("post_mlp_layernorm") if config.sandwich else None,
    )


def _dense(config: ModelConfig, layout: HeadLayout, prefix: str) -> DenseAttention:
    size = config.head_dim
    heads = {
        "q": (config.heads, layout.keys),
        "k": (config.kv_heads, layout.keys),
        "v": (config.kv_heads, layout.values),
    }
    weights, biases = [], []
    for letter, (count, order) in heads.items():
        rows = layout.repeat(order, count, size)
        weights.append(Part(f"{prefix}{letter}_proj.weight", (count * size, config.hidden), rows))
        biases.append(Part(f"{prefix}{letter}_proj.bias", (count * size,), rows))
    bias = Vector(f"{prefix}qkv_proj.bias", tuple(biases)) if config.attention_bias else None
    columns = layout.repeat(layout.values, config.heads, size)
    output = Part(f"{prefix}o_proj.weight", (config.hidden, config.heads * size))

    def head_norm(letter: str) -> Vector:
        name = f"{prefix}{letter}_norm.weight"
        # The mean over a head counts its zeros too: the weight makes up for them.
        return Vector(name, (Part(name, (size,), layout.keys),), (size / layout.width) ** 0.5)

    return DenseAttention(
        qkv=Linear(Matrix(f"{prefix}qkv_proj.weight", tuple(weights)), bias),
        output=Linear(Matrix(f"{prefix}o_proj.weight", (output,), columns)),
        q_norm=head_norm("q") if config.qk_norm else None,
        k_norm=head_norm("k") if config.qk_norm else None,
    )


def _latent(config: ModelConfig, latent: Latent, layout: HeadLayout, prefix: str) -> LatentAttention:
    heads, size, up = config.heads, latent.nope + latent.rope, latent.nope + latent.value
    queries = layout.repeat(layout.keys, heads, size)

    def linear(name: str, rows: int, columns: int, order: Index | None = None, bias: bool = False) -> Linear:
        weight = Matrix(f"{prefix}{name}.weight", (Part(f"{prefix}{name}.weight", (rows, columns), order),))
        part = Part(f"{prefix}{name}.bias", (rows,), order)
        return Linear(weight, Vector(part.tensor, (part,)) if bias else None)

    rotary_key = np.full(layout.width, -1)
    rotary_key[: latent.rope] = rotary_pairs(config.rope) + latent.kv_rank
    plain_key = np.where(layout.keys < latent.nope, layout.keys, -1)
    kv_up = np.concatenate(
        [layout.repeat(plain_key, heads, up), layout.repeat(layout.values, heads, up, latent.nope)]
    )
    output = Part(f"{prefix}o_proj.weight", (config.hidden, heads * latent.value))
    rank, biased = latent.query_rank, config.attention_bias
    return LatentAttention(
        query_down=linear("q_a_proj", rank, config.hidden, bias=biased) if rank else None,
        query_norm=_vector(f"{prefix}q_a_layernorm.weight", rank) if rank else None,
        query=linear("q_b_proj", heads * size, rank, queries)
        if rank
        else linear("q_proj", heads * size, config.hidden, queries),
        kv_down=linear(
            "kv_a_proj_with_mqa",
            latent.kv_rank + latent.rope,
            config.hidden,
            np.concatenate([np.arange(latent.kv_rank), rotary_key]),
            biased,
        ),
        kv_norm=_vector(f"{prefix}kv_a_layernorm.weight", latent.kv_rank),
        kv_up=linear("kv_b_proj", heads * up, latent.kv_rank, kv_up),
        output=Linear(
            Matrix(output.tensor, (output,), layout.repeat(layout.values, heads, latent.value)),
            _vector(f"{prefix}o_proj.bias", config.hidden) if biased else None,
        ),
    )


def _mlp(prefix: str, hidden: int, width: int, *, fused: bool = False) -> Mlp:
    if fused:
        gate_up = _matrix(f"{prefix}gate_up_proj.weight", 2 * width, hidden)
    else:
        parts = tuple(Part(f"{prefix}{half}_proj.weight", (width, hidden)) for half in ("gate", "up"))
        gate_up = Matrix(f"{prefix}gate_up_proj.weight", parts)
    return Mlp(Linear(gate_up), Linear(_matrix(f"{prefix}down_proj.weight", hidden, width)))


def _mixture(config: ModelConfig, experts: Experts, prefix: str) -> Mixture:
    hidden, width = config.hidden, experts.intermediate
    return Mixture(
        router=Linear(_matrix(f"{prefix}gate.weight", experts.routed, hidden)),
        correction=_vector(f"{prefix}gate.e_score_correction_bias", experts.routed),
        experts=tuple(_mlp(f"{prefix}experts.{e}.", hidden, width) for e in range(experts.routed)),
        shared=_mlp(f"{prefix}shared_experts.", hidden, width * experts.shared) if experts.shared else None,
    )


def _matrix(name: str, rows: int, columns: int) -> Matrix:
    return Matrix(name, (Part(name, (rows, columns)),))


def _vector(name: str, size: int) -> Vector:
    return Vector(name, (Part(name, (size,)),))


def _parts(value: Any) -> Iterator[Part]:
    if isinstance(value, Part):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _parts(item)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _parts(getattr(value, field.name))
