"""Attention of the GLM families: from hidden states to heads, and back."""

from engines.build.graph.dialect import Dialect
from engines.build.parameters import DenseAttention, LatentAttention
from engines.build.weights import Vector


def attention(d: Dialect, x: str, weights: DenseAttention | LatentAttention, layer: int) -> str:
    """One layer's attention of normed hidden states [B, T, hidden]."""
    if isinstance(weights, LatentAttention):
        return _latent(d, x, weights, layer)
    return _dense(d, x, weights, layer)


def _dense(d: Dialect, x: str, weights: DenseAttention, layer: int) -> str:
    config = d.parameters.config
    scale = config.head_dim**-0.5
    qkv = d.linear(x, weights.qkv)
    if weights.q_norm is None or weights.k_norm is None:
        heads = d.attend_packed(qkv, layer, scale)
    else:
        query, key, value = split_heads(d, qkv)
        query = _head_norm(d, query, weights.q_norm, config.heads)
        key = _head_norm(d, key, weights.k_norm, config.kv_heads)
        heads = d.attend(query, key, value, layer, scale)
    return d.linear(heads, weights.output)


def split_heads(d: Dialect, qkv: str) -> list[str]:
    """Query, key and value of a stacked projection."""
    config, width = d.parameters.config, d.parameters.layout.width
    sizes = d.builder.constant([config.heads * width, config.kv_heads * width, config.kv_heads * width])
    return d.builder.nodes("Split", [qkv, sizes], 3, axis=-1)


def _head_norm(d: Dialect, x: str, weight: Vector, heads: int) -> str:
    config, width = d.parameters.config, d.parameters.layout.width
    split = d.builder.node("Reshape", x, d.builder.constant([0, 0, heads, width]))
    # The mean over a padded head is smaller by head_dim / width, and epsilon with it.
    normed = d.norm(split, weight, config.norm_epsilon * config.head_dim / width)
    return d.builder.node("Reshape", normed, d.builder.constant([0, 0, heads * width]))


def _latent(d: Dialect, x: str, weights: LatentAttention, layer: int) -> str:
    config, width, b = d.parameters.config, d.parameters.layout.width, d.builder
    latent, heads = config.latent, config.heads
    assert latent is not None
    query = x
    if weights.query_down and weights.query_norm:
        query = d.norm(d.linear(x, weights.query_down), weights.query_norm, LATENT_NORM_EPSILON)
    query = d.linear(query, weights.query)
    down, rotary_key = b.nodes(
        "Split", [d.linear(x, weights.kv_down), b.constant([latent.kv_rank, width])], 2, axis=-1
    )
    up = d.linear(d.norm(down, weights.kv_norm, LATENT_NORM_EPSILON), weights.kv_up)
    plain_key, value = b.nodes("Split", [up, b.constant([heads * width, heads * width])], 2, axis=-1)
    # Every head sees the same rotary key: plain keys are zero there, so adding puts it in place.
    per_head = b.node("Reshape", plain_key, b.constant([0, 0, heads, width]))
    key = b.node("Add", per_head, b.node("Unsqueeze", rotary_key, b.constant([2])))
    key = b.node("Reshape", key, b.constant([0, 0, heads * width]))
    scale = (latent.nope + latent.rope) ** -0.5 * config.rope.softmax_magnitude**2
    return d.linear(d.attend(query, key, value, layer, scale), weights.output)


LATENT_NORM_EPSILON = 1e-6  # the reference norms the latents with its default, not with rms_norm_eps
