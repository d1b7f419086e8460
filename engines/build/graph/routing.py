"""Which experts a token goes to: sigmoid scores, a correction for the choice only, groups first.

Auxiliary-loss-free routing of DeepSeek-V3 (arXiv:2412.19437), as the GLM-4.5 reference applies it.
"""

import numpy as np

from engines.build.config import Experts
from engines.build.graph.dialect import Dialect
from engines.build.parameters import Mixture


def route(d: Dialect, tokens: str, weights: Mixture, experts: Experts) -> str:
    """Mixing weights float32 [N, experts] of tokens [N, hidden]: zero but for the chosen experts."""
    b = d.builder
    wide = b.node("Cast", tokens, to=1)
    matrix = weights.router.weight
    rows, columns = matrix.shape
    router = b.weight(f"{matrix.name}.transposed", "float32", (columns, rows), [d.read(matrix).T])
    scores = b.node("Sigmoid", b.node("MatMul", wide, router))
    correction = b.weight(weights.correction.name, "float32", (rows,), [weights.correction.values(d.source)])
    choice = b.node("Add", scores, correction)
    if experts.top_groups < experts.groups:
        choice = _keep_best_groups(d, choice, experts)
    _, chosen = b.nodes("TopK", [choice, b.constant([experts.per_token])], 2, axis=-1)
    picked = b.node("GatherElements", scores, chosen, axis=-1)
    if experts.normalize:
        total = b.node("ReduceSum", picked, b.constant([-1]), keepdims=1)
        picked = b.node("Div", picked, b.node("Add", total, b.constant(1e-20, "float32")))
    if experts.scale != 1:
        picked = b.node("Mul", picked, b.constant(experts.scale, "float32"))
    return _scatter(d, scores, chosen, picked)


def _keep_best_groups(d: Dialect, choice: str, experts: Experts) -> str:
    """Rule out all but the best groups, a group being as good as its two best experts."""
    b = d.builder
    size = experts.routed // experts.groups
    grouped = b.node("Reshape", choice, b.constant([-1, experts.groups, size]))
    best, _ = b.nodes("TopK", [grouped, b.constant([min(2, size)])], 2, axis=-1)
    totals = b.node("ReduceSum", best, b.constant([-1]), keepdims=0)
    _, groups = b.nodes("TopK", [totals, b.constant([experts.top_groups])], 2, axis=-1)
    ones = b.node("Expand", b.constant(1.0, "float32"), b.node("Shape", groups))
    mask = b.node("Unsqueeze", b.node("Cast", _scatter(d, totals, groups, ones), to=9), b.constant([-1]))
    # A corrected score may be negative: only minus infinity keeps the others out.
    masked = b.node("Where", mask, grouped, b.constant(-np.inf, "float32"))
    return b.node("Reshape", masked, b.constant([-1, experts.routed]))


def _scatter(d: Dialect, like: str, index: str, values: str) -> str:
    """`values` at `index` along the last axis of zeros shaped like `like`."""
    b = d.builder
    zeros = b.node("Expand", b.constant(0.0, "float32"), b.node("Shape", like))
    return b.node("ScatterElements", zeros, index, values, axis=-1)
