"""Muon: momentum, then the nearest orthogonal matrix, with AdamW's root-mean-square step.

The same update as `torch.optim.Muon(adjust_lr_fn="match_rms_adamw")` (K. Jordan, 2024,
https://kellerjordan.github.io/posts/muon/), its products in bfloat16 as there. Matrices of one shape are
updated together.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # steepest at 0 of the quintics that keep singular values near 1


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """[N, rows, columns] to matrices of the same singular vectors whose singular values are about 1."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = (x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)).bfloat16()
    a, b, c = _COEFFICIENTS
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """One parameter group per shape, so that each step is a few batched products."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.95
    ):
        shapes: dict[torch.Size, list[nn.Parameter]] = {}
        for parameter in parameters:
            shapes.setdefault(parameter.shape, []).append(parameter)
        groups = [{"params": same} for same in shapes.values()]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update in place from the gradients (Nesterov momentum, decoupled weight decay)."""
        for group in self.param_groups:
            parameters = group["params"]
            gradient = torch.stack([parameter.grad for parameter in parameters])
            state = self.state[parameters[0]]
            average = state.setdefault("momentum", torch.zeros_like(gradient))
            average.lerp_(gradient, 1 - group["momentum"])
            update = orthogonalize(gradient.lerp(average, group["momentum"]))
            rate = group["lr"] * 0.2 * max(gradient.shape[1:]) ** 0.5
            for parameter, change in zip(parameters, update, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(change, alpha=rate)
