"""One description of every GLM family, written in any dialect.

Inputs (the same names in both dialects; B rows, T tokens per row, P logits per row, S cache capacity):
  input_ids        int64 [B, T]   right-padded with any valid id
  position_ids     int64 [B, T]   position of each token in its row (fused: derived, the input is ignored)
  lengths          int64 [B]      valid tokens of each row in input_ids, at least 1
  write_index      int64 [B]      tokens the row's cache holds already
  logit_positions  int64 [B, P]   which of the T tokens' logits are wanted
  past_key_i, past_value_i  float32 [B, kv_heads, S, head_dim]   one pair per layer
Outputs:
  logits           float32 [B, P, vocabulary]
  hidden           float32 [B, P, hidden]   what the logits are made of: the last hidden states, normed
  present_key_i, present_value_i   shaped like the past; bind them to the same buffers

Any mix of rows runs in one call: fresh prompts, chunks after cached context, one-token decoding. Cache
elements at or beyond a row's new length are unspecified. In every row write_index + T <= S: the standard
dialect writes all T tokens; the fused one only the valid, but where padding would not fit it does not run.
"""

from collections.abc import Callable

from engines.build.graph.attention import attention
from engines.build.graph.dialect import Dialect
from engines.build.graph.mlp import feed_forward
from engines.build.parameters import Layer


def write_model(d: Dialect, progress: Callable[[int, int], None]) -> None:
    """Write the whole model with the dialect's operators; progress(layers written, layers)."""
    b, config = d.builder, d.parameters.config
    for name, shape in (("input_ids", "BT"), ("position_ids", "BT"), ("lengths", "B"), ("write_index", "B")):
        b.input(name, "int64", shape)
    b.input("logit_positions", "int64", "BP")
    cache = ("B", config.kv_heads, d.capacity, d.parameters.layout.width)
    for layer in range(config.layers):
        b.input(f"past_key_{layer}", d.dtype, cache)
        b.input(f"past_value_{layer}", d.dtype, cache)
    d.begin()
    hidden = _wanted(d, _trunk(d, d.embed("input_ids"), progress))
    logits = d.head(hidden)
    b.nodes("Identity", [logits], [b.output("logits", "float32", ("B", "P", config.vocab_size))])
    b.nodes("Cast", [hidden], [b.output("hidden", "float32", ("B", "P", config.hidden))], to=1)
    for layer in range(config.layers):
        b.output(f"present_key_{layer}", d.dtype, cache)
        b.output(f"present_value_{layer}", d.dtype, cache)


def _trunk(d: Dialect, embedded: str, progress: Callable[[int, int], None]) -> tuple[str, str]:
    """The last block's answer and the residual stream it is still to be added to."""
    residual, branch = embedded, None
    for index, layer in enumerate(d.parameters.layers):
        residual, branch = block(d, residual, branch, layer, index)
        progress(index + 1, len(d.parameters.layers))
    assert branch is not None
    return branch, residual


def block(d: Dialect, residual: str, branch: str | None, layer: Layer, index: int) -> tuple[str, str]:
    """One layer: the new residual stream and the branch to be added to it."""
    epsilon = d.parameters.config.norm_epsilon
    if branch is None:
        normed = d.norm(residual, layer.input_norm, epsilon)
    else:
        normed, residual = d.add_norm(branch, residual, layer.input_norm, epsilon)
    attended = attention(d, normed, layer.attention, index)
    if layer.attention_post_norm:
        attended = d.norm(attended, layer.attention_post_norm, epsilon)
    normed, residual = d.add_norm(attended, residual, layer.mlp_norm, epsilon)
    branch = feed_forward(d, normed, layer.mlp)
    if layer.mlp_post_norm:
        branch = d.norm(branch, layer.mlp_post_norm, epsilon)
    return residual, branch


def _wanted(d: Dialect, ends: tuple[str, str]) -> str:
    """Final norm of the tokens whose logits are wanted, [B, P, hidden]."""
    b, hidden = d.builder, d.parameters.config.hidden
    rows, tokens = (b.node("Shape", "input_ids", start=axis, end=axis + 1) for axis in (0, 1))
    scalar_rows = b.node("Squeeze", rows, b.constant([0]))
    starts = b.node("Mul", b.node("Range", b.constant(0), scalar_rows, b.constant(1)), tokens)
    index = b.node("Add", b.node("Unsqueeze", starts, b.constant([1])), "logit_positions")
    flat = b.constant([-1, hidden])
    branch, residual = (b.node("Gather", b.node("Reshape", end, flat), index, axis=0) for end in ends)
    normed, _ = d.add_norm(branch, residual, d.parameters.norm, d.parameters.config.norm_epsilon)
    return normed
