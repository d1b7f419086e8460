"""Initial weights that can already copy: an induction head, laid out by hand, that training then refines.

Copying from the request is most of what this model does, and the circuit for it is what random weights take
longest to find (Olsson et al., 2022, "In-context learning and induction heads"). Layer 0 looks one position
back and notes that token's features beside the present one's; layer 1 looks for positions whose noted token
is the present one, and writes what stands there. Everything else starts at random. In the spirit of mimetic
initialization (Trockman & Kolter, 2023, https://arxiv.org/abs/2305.09828).
"""

import torch
from torch import Tensor, nn

from engines.demo.glm import Attention, Glm

LOOK_BACK = 7.0  # bias of queries and keys: the previous position outweighs its neighbours about e^4 times
MATCH = 3.0  # gain of the features by which a token finds its earlier occurrence
NOTE, WRITE = 0.09, 0.2  # gains of what the two heads add to the residual stream; embeddings have 0.09


@torch.no_grad()
def initialize(model: Glm) -> None:
    """Set all weights; needs two layers, biases, and hidden_size of at least 2 * head_dim * KV heads."""
    c = model.config
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif "embed_tokens" in name:
            nn.init.normal_(parameter, std=c.hidden_size**-0.5)
            parameter[:, c.head_dim : 2 * c.head_dim] *= 0.3  # room for the notes of layer 0
        elif parameter.ndim == 2:
            gain = 0.2 if "o_proj" in name or "down_proj" in name else 0.5
            nn.init.normal_(parameter, std=gain * parameter.shape[1] ** -0.5)
    first, second = (model.model.layers[index].self_attn for index in (0, 1))
    rotary = int(c.head_dim * c.partial_rotary_factor)
    theta = c.rope_theta ** (-torch.arange(0, rotary, 2, dtype=torch.float32) / rotary)
    _look_back(first, theta)
    # Where the rotation hardly turns: the features by which tokens are compared at any distance.
    still = torch.arange(rotary - 6, c.head_dim)
    for head in range(c.num_key_value_heads):
        _match(second, head, still)


def _look_back(attention: Attention, theta: Tensor) -> None:
    """KV head 0: rotated biases of query and key agree best at distance 1; copy features 0… to dim…"""
    dim, rotary = attention.dim, 2 * len(theta)
    attention.k_proj.weight[:dim] *= 0.3
    attention.k_proj.bias[0:rotary:2] = LOOK_BACK
    attention.v_proj.weight[:dim] *= 0.3
    attention.v_proj.weight[:dim, :dim] += torch.eye(dim)
    for row in range(0, attention.heads // attention.kv_heads * dim, dim):
        attention.q_proj.weight[row : row + dim] *= 0.3
        attention.q_proj.bias[row : row + rotary : 2] = LOOK_BACK * theta.cos()
        attention.q_proj.bias[row + 1 : row + rotary : 2] = -LOOK_BACK * theta.sin()
        attention.o_proj.weight[:, row : row + dim] *= 0.3
        attention.o_proj.weight[dim : 2 * dim, row : row + dim] += NOTE * torch.eye(dim)


def _match(attention: Attention, head: int, still: Tensor) -> None:
    """Queries hold a token's features, keys the notes about the token before: where they agree, write what
    stands there. Each KV head compares other features and carries another part of the embedding."""
    dim, group = attention.dim, attention.heads // attention.kv_heads
    features = (torch.arange(len(still)) + 5 * head) % dim
    part = slice(2 * dim * head, 2 * dim * head + dim)
    keys = slice(head * dim, (head + 1) * dim)
    attention.k_proj.weight[keys] *= 0.2
    attention.k_proj.weight[head * dim + still, dim + features] += MATCH
    attention.v_proj.weight[keys] *= 0.3
    attention.v_proj.weight[keys, part] += torch.eye(dim)
    for row in range(head * group * dim, (head + 1) * group * dim, dim):
        attention.q_proj.weight[row + still] *= 0.2
        attention.q_proj.weight[row + still, features] += MATCH
        attention.o_proj.weight[:, row : row + dim] *= 0.3
        attention.o_proj.weight[part, row : row + dim] += WRITE * torch.eye(dim)
