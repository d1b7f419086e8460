"""The GLM block in PyTorch, for training only: parameter names and mathematics of Hugging Face's `glm`.

Pre-norm RMSNorm, grouped-query attention, interleaved rotary embedding over the first
`partial_rotary_factor` of each head, fused gate and up projection with SiLU, tied embeddings.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Cache = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Config:
    """Sizes under their config.json names; each is a multiple of 128 where int4 blocks need it."""

    vocab_size: int = 2560
    hidden_size: int = 256
    intermediate_size: int = 768
    num_hidden_layers: int = 5
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 32
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-5
    partial_rotary_factor: float = 0.5
    rope_theta: float = 10000.0
    attention_bias: bool = False

    def as_json(self, eos_token_id: list[int]) -> dict[str, Any]:
        """config.json as transformers 5 writes it."""
        sizes = asdict(self)
        rope = {key: sizes.pop(key) for key in ("partial_rotary_factor", "rope_theta")}
        return {
            "architectures": ["GlmForCausalLM"],
            "model_type": "glm",
            **sizes,
            "rope_parameters": {"rope_type": "default", **rope},
            "attention_dropout": 0.0,
            "hidden_act": "silu",
            "initializer_range": 0.02,
            "tie_word_embeddings": True,
            "use_cache": True,
            "dtype": "bfloat16",
            "bos_token_id": None,
            "eos_token_id": eos_token_id,
            "pad_token_id": eos_token_id[0],
        }

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "Config":
        known = {**config, **config["rope_parameters"]}
        return cls(**{name: known[name] for name in cls.__dataclass_fields__})


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [B, heads, T, head_dim]; cos, sin [T, rotary/2]: pairs (2i, 2i+1) turn by position times theta_i."""
    width = cos.shape[-1] * 2
    even, odd = x[..., 0:width:2].float(), x[..., 1:width:2].float()
    turned = torch.stack((even * cos - odd * sin, odd * cos + even * sin), -1).flatten(-2).to(x.dtype)
    return torch.cat((turned, x[..., width:]), -1)


class Linear(nn.Linear):
    """Weights stay in float32; products are taken in the dtype of x."""

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)


class RMSNorm(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(torch.ones(c.hidden_size)), c.rms_norm_eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return (wide * (wide.square().mean(-1, keepdim=True) + self.epsilon).rsqrt() * self.weight).to(
            x.dtype
        )


class Attention(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.heads, self.kv_heads, self.dim = c.num_attention_heads, c.num_key_value_heads, c.head_dim
        self.q_proj = Linear(c.hidden_size, self.heads * self.dim, bias=c.attention_bias)
        self.k_proj = Linear(c.hidden_size, self.kv_heads * self.dim, bias=c.attention_bias)
        self.v_proj = Linear(c.hidden_size, self.kv_heads * self.dim, bias=c.attention_bias)
        self.o_proj = Linear(self.heads * self.dim, c.hidden_size, bias=False)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x [B, T, hidden]; mask bool [T, P+T] or [B, 1, T, P+T]; past [1 or B, kv_heads, P, head_dim].

        A past that all rows share is multiplied with the queries of all rows at once. Returns the keys and
        values of the past with the new ones, or, where the past is shared, the new ones alone.
        """
        b, t, _ = x.shape
        group, dim = self.heads // self.kv_heads, self.dim
        q = rotate(self.q_proj(x).view(b, t, self.heads, dim).transpose(1, 2), cos, sin)
        k = rotate(self.k_proj(x).view(b, t, self.kv_heads, dim).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(b, t, self.kv_heads, dim).transpose(1, 2)
        if past is not None and past[0].shape[0] == b:
            k, v, past = torch.cat((past[0], k), 2), torch.cat((past[1], v), 2), None
        q = q.reshape(b, self.kv_heads, group * t, dim) * dim**-0.5
        scores = (q @ k.transpose(-1, -2)).view(b, self.kv_heads, group, t, -1)
        if past is not None:
            rows = q.transpose(0, 1).reshape(self.kv_heads, b * group * t, dim)
            early = (rows @ past[0][0].transpose(-1, -2)).view(self.kv_heads, b, group, t, -1)
            scores = torch.cat((early.transpose(0, 1), scores), -1)
        seen = mask if mask.ndim == 2 else mask[:, None]
        weights = scores.float().masked_fill(~seen, -1e9).softmax(-1).to(x.dtype)
        length = 0 if past is None else past[0].shape[2]
        y = (weights[..., length:].reshape(b, self.kv_heads, group * t, -1) @ v).view(b, self.heads, t, dim)
        if past is not None:
            rows = weights[..., :length].transpose(0, 1).reshape(self.kv_heads, b * group * t, length)
            y = y + (rows @ past[1][0]).view(self.kv_heads, b, group, t, dim).transpose(0, 1).reshape(y.shape)
        return self.o_proj(y.transpose(1, 2).reshape(b, t, -1)), (k, v)


class MLP(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.gate_up_proj = Linear(c.hidden_size, 2 * c.intermediate_size, bias=False)
        self.down_proj = Linear(c.intermediate_size, c.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(x).chunk(2, -1)
        return self.down_proj(F.silu(gate) * up)  # type: ignore[no-any-return]


class Layer(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.input_layernorm = RMSNorm(c)
        self.self_attn = Attention(c)
        self.post_attention_layernorm = RMSNorm(c)
        self.mlp = MLP(c)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, kv = self.self_attn(self.input_layernorm(x), cos, sin, mask, past)
        x = x + y
        return x + self.mlp(self.post_attention_layernorm(x)), kv


class Decoder(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.num_hidden_layers))
        self.norm = RMSNorm(c)


class Glm(nn.Module):
    """The whole model; `state_dict()` has the names of a Hugging Face checkpoint with tied embeddings."""

    def __init__(self, config: Config, dtype: torch.dtype = torch.float32):
        """`dtype` is that of activations and products; weights are float32 always."""
        super().__init__()
        self.config, self.dtype = config, dtype
        self.model = Decoder(config)

    def forward(
        self, ids: Tensor, positions: Tensor, mask: Tensor, past: Cache | None = None
    ) -> tuple[Tensor, Cache]:
        """ids int64 [B, T]; positions int64 [T] or [B, T]; mask and past as in Attention.

        Returns hidden states [B, T, hidden] and the keys and values of past and new positions.
        """
        c = self.config
        rotary = int(c.head_dim * c.partial_rotary_factor)
        theta = c.rope_theta ** (-torch.arange(0, rotary, 2, dtype=torch.float32) / rotary)
        angle = positions[..., None].float() * theta
        if positions.ndim == 2:
            angle = angle[:, None]
        x, cache = self.model.embed_tokens(ids).to(self.dtype), []
        for i, layer in enumerate(self.model.layers):
            x, kv = layer(x, angle.cos(), angle.sin(), mask, past[i] if past else None)
            cache.append(kv)
        return self.model.norm(x), cache

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden [..., hidden] to [..., vocabulary], through the tied embeddings."""
        return F.linear(hidden, self.model.embed_tokens.weight.to(hidden.dtype))
