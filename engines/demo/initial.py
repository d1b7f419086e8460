"""Initial weights that can already copy: an induction head, laid out by hand, that training then refines.

Copying from the request is most of what this model does, and the circuit for it is what random weights take
longest to find (Olsson et al., 2022, "In-context learning and induction heads"). Layer 0 looks one and two
positions back and notes those tokens' features beside the present one's; layer 1 looks for positions whose
notes are the present token and the one before (one alone would not do among digits), and writes what stands
there. Everything else starts at random. In the spirit of mimetic initialization (Trockman & Kolter, 2023,
https://arxiv.org/abs/2305.09828).
"""

import torch
from torch import Tensor, nn

from engines.demo.glm import Attention, Glm

LOOK_BACK = 7.0  # bias of queries and keys: the previous position outweighs its neighbours about e^4 times
MATCH = 4.0  # gain of the features by which a token finds its earlier occurrence
NOTE, WRITE = 0.09, 0.3  # gains of what the two heads add to the residual stream; embeddings have 0.09


@torch.no_grad()
def initialize(model: Glm) -> None:
    """Set all weights; needs two layers, two KV heads, biases, and hidden_size of 4 * head_dim or more."""
    c = model.config
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif "embed_tokens" in name:
            nn.init.normal_(parameter, std=c.hidden_size**-0.5)
            parameter[:, c.head_dim : 3 * c.head_dim] *= 0.3  # room for the notes of layer 0
        elif parameter.ndim == 2:
            gain = 0.2 if "o_proj" in name or "down_proj" in name else 0.5
            nn.init.normal_(parameter, std=gain * parameter.shape[1] ** -0.5)
    first, second = (model.model.layers[index].self_attn for index in (0, 1))
    rotary = int(c.head_dim * c.partial_rotary_factor)
    theta = c.rope_theta ** (-torch.arange(0, rotary, 2, dtype=torch.float32) / rotary)
    for head in range(2):
        _look_back(first, head, theta)
        # Where the rotation hardly turns, tokens are compared at any distance.
        _match(second, head, torch.arange(rotary - 6, c.head_dim))


def _look_back(attention: Attention, head: int, theta: Tensor) -> None:
    """Rotated biases of query and key agree best at distance head + 1; features 0… to dim are noted."""
    dim, rotary, distance = attention.dim, 2 * len(theta), head + 1
    keys, notes = slice(head * dim, (head + 1) * dim), slice(distance * dim, (distance + 1) * dim)
    attention.k_proj.weight[keys] *= 0.3
    attention.k_proj.bias[head * dim : head * dim + rotary : 2] = LOOK_BACK
    attention.v_proj.weight[keys] *= 0.3
    attention.v_proj.weight[keys, :dim] += torch.eye(dim)
    for row in _rows(attention, head):
        attention.q_proj.weight[row : row + dim] *= 0.3
        attention.q_proj.bias[row : row + rotary : 2] = LOOK_BACK * (distance * theta).cos()
        attention.q_proj.bias[row + 1 : row + rotary : 2] = -LOOK_BACK * (distance * theta).sin()
        attention.o_proj.weight[:, row : row + dim] *= 0.3
        attention.o_proj.weight[notes, row : row + dim] += NOTE * torch.eye(dim)


def _match(attention: Attention, head: int, still: Tensor) -> None:
    """Queries hold the present token and the note about the one before, keys the notes about the two before:
    where they agree, write what stands there. Each head compares other features, carries another part."""
    dim = attention.dim
    keys, part = slice(head * dim, (head + 1) * dim), slice(3 * head * dim, (3 * head + 1) * dim)
    features = (torch.arange(len(still)) + len(still) // 2 * head) % dim
    present = torch.arange(len(still)) % 3 < 2  # two features in three: the last token matters most
    asked = torch.where(present, features, features + dim)
    attention.k_proj.weight[keys] *= 0.2
    attention.k_proj.weight[head * dim + still, asked + dim] += MATCH
    attention.v_proj.weight[keys] *= 0.3
    attention.v_proj.weight[keys, part] += torch.eye(dim)
    for row in _rows(attention, head):
        attention.q_proj.weight[row + still] *= 0.2
        attention.q_proj.weight[row + still, asked] += MATCH
        attention.o_proj.weight[:, row : row + dim] *= 0.3
        attention.o_proj.weight[part, row : row + dim] += WRITE * torch.eye(dim)


def _rows(attention: Attention, head: int) -> range:
    """First rows of the query heads that share a KV head."""
    dim, group = attention.dim, attention.heads // attention.kv_heads
    return range(head * group * dim, (head + 1) * group * dim, dim)
