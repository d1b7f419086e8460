"""The feed-forward part of a layer: dense, or a mixture of experts."""

from engines.build.graph.dialect import Dialect
from engines.build.graph.routing import route
from engines.build.parameters import Mixture, Mlp


def feed_forward(d: Dialect, x: str, weights: Mlp | Mixture) -> str:
    """x is normed hidden states [B, T, hidden]."""
    if isinstance(weights, Mixture):
        return _mixture(d, x, weights)
    width = weights.down.weight.shape[1]
    return d.linear(d.gate(d.linear(x, weights.gate_up), width), weights.down)


def _mixture(d: Dialect, x: str, weights: Mixture) -> str:
    b, config = d.builder, d.parameters.config
    assert config.experts is not None
    tokens = b.node("Reshape", x, b.constant([-1, config.hidden]))
    mixed = d.mix(tokens, route(d, tokens, weights, config.experts), weights)
    mixed = b.node("Reshape", mixed, b.node("Shape", x))
    return mixed if weights.shared is None else b.node("Add", mixed, feed_forward(d, x, weights.shared))
