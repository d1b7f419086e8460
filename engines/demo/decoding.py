"""Greedy completion of many prompts at once in PyTorch: the measure of a checkpoint before it is built."""

import torch

from engines.demo.glm import Glm


@torch.no_grad()
def complete(model: Glm, prompts: list[list[int]], ends: set[int], max_tokens: int) -> list[list[int]]:
    """The tokens after each prompt up to and including the first of `ends`; rows are padded on the left."""
    width, rows = max(map(len, prompts)), len(prompts)
    ids = torch.zeros(rows, width, dtype=torch.int64)
    real = torch.zeros(rows, width, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        real[row, width - len(prompt) :] = True
    positions = (real.cumsum(1) - 1).clamp(min=0)
    mask = real[:, None, None] & torch.ones(width, width, dtype=torch.bool).tril()
    mask = mask | torch.eye(width, dtype=torch.bool)  # a padding position sees itself, or softmax has no term
    hidden, cache = model(ids, positions, mask)
    done, out = [False] * rows, [[] for _ in range(rows)]  # type: ignore[var-annotated]
    for _ in range(max_tokens):
        token = model.logits(hidden[:, -1]).argmax(-1)
        for row, value in enumerate(token.tolist()):
            if not done[row]:
                out[row].append(value)
                done[row] = value in ends
        if all(done):
            break
        positions = positions[:, -1:] + 1
        real = torch.cat((real, torch.ones(rows, 1, dtype=torch.bool)), 1)
        hidden, cache = model(token[:, None], positions, real[:, None, None], cache)
    return out
