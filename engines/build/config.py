"""config.json of a GLM checkpoint as one typed description."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.build.fields import Fields
from engines.build.rope import Rope, parse_rope
from engines.errors import CheckpointError, UnsupportedModel

FAMILIES = ("glm", "glm4", "glm4_moe", "glm4_moe_lite")


@dataclass(frozen=True)
class Experts:
    """Mixture of experts: sigmoid routing, `per_token` experts out of the best `top_groups` groups."""

    routed: int
    per_token: int
    shared: int
    intermediate: int
    groups: int
    top_groups: int
    normalize: bool
    scale: float
    sparse: tuple[bool, ...]


@dataclass(frozen=True)
class Latent:
    """Latent attention (DeepSeek-V2, arXiv:2405.04434): ranks and the parts of a head, in elements."""

    query_rank: int | None
    kv_rank: int
    nope: int
    rope: int
    value: int


@dataclass(frozen=True)
class ModelConfig:
    """What a graph needs to know about a model. Sizes are in elements."""

    family: str
    vocab_size: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    context: int
    norm_epsilon: float
    attention_bias: bool
    tied: bool | None
    rope: Rope
    eos_token_ids: tuple[int, ...]
    fused_gate_up: bool
    sandwich: bool = False
    qk_norm: bool = False
    experts: Experts | None = None
    latent: Latent | None = None

    def is_sparse(self, layer: int) -> bool:
        """Whether this layer's MLP is a mixture of experts."""
        return self.experts is not None and self.experts.sparse[layer]


def load_config(folder: Path) -> ModelConfig:
    """Read FOLDER/config.json (and the stop tokens of generation_config.json).

    Raises CheckpointError for a missing or wrong value and UnsupportedModel for a family or option
    that is not built, naming the key.
    """
    values = _object(folder / "config.json")
    fields = Fields(values, "config.json")
    family = values.get("model_type")
    if family not in FAMILIES:
        raise UnsupportedModel(
            f"config.json: model_type {family!r} is not built; families: {', '.join(FAMILIES)}"
        )
    fields.only("hidden_act", "silu", "swish")
    if values.get("quantization_config") is not None:
        raise UnsupportedModel(
            "config.json: quantization_config: give the unquantized checkpoint (fp32, fp16 or bf16)"
        )
    generation = folder / "generation_config.json"
    newer = Fields(_object(generation), generation.name) if generation.is_file() else fields
    stops = (fields if newer.raw("eos_token_id") is None else newer).ids("eos_token_id")
    return _parse(fields, str(family), stops)


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must be a JSON object")
    return value


def _parse(fields: Fields, family: str, stops: tuple[int, ...]) -> ModelConfig:
    hidden, heads, layers = (
        fields.size(k) for k in ("hidden_size", "num_attention_heads", "num_hidden_layers")
    )
    latent = _latent(fields) if family == "glm4_moe_lite" else None
    context = fields.size("max_position_embeddings")
    if latent:
        kv_heads, head_dim = heads, max(latent.nope + latent.rope, latent.value)
        interleaved = fields.flag("rope_interleave", True)
        rope = parse_rope(fields, latent.rope, 1.0, interleaved=interleaved, context=context)
    else:
        kv_heads = fields.size("num_key_value_heads", heads)
        head_dim = fields.size("head_dim", max(hidden // heads, 1))
        interleaved = family in ("glm", "glm4")
        rope = parse_rope(fields, head_dim, 0.5, interleaved=interleaved, context=context)
    if heads % kv_heads:
        raise CheckpointError(
            f"config.json: num_attention_heads {heads} is no multiple of num_key_value_heads {kv_heads}"
        )
    if not 0 < rope.dims <= head_dim:
        raise CheckpointError(
            f"config.json: partial_rotary_factor rotates {rope.dims} of {head_dim} head elements"
        )
    moe = family in ("glm4_moe", "glm4_moe_lite")
    return ModelConfig(
        family=family,
        vocab_size=fields.size("vocab_size"),
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=fields.size("intermediate_size"),
        context=rope.reach(context),
        norm_epsilon=fields.number("rms_norm_eps", 1e-5 if moe else 1.5625e-07),
        attention_bias=fields.flag("attention_bias", False),
        tied=None if fields.raw("tie_word_embeddings") is None else fields.flag("tie_word_embeddings", False),
        rope=rope,
        eos_token_ids=stops,
        fused_gate_up=not moe,
        sandwich=family == "glm4",
        qk_norm=family == "glm4_moe" and fields.flag("use_qk_norm", False),
        experts=_experts(fields, layers) if moe else None,
        latent=latent,
    )


def _latent(fields: Fields) -> Latent:
    return Latent(
        query_rank=None if fields.raw("q_lora_rank") is None else fields.size("q_lora_rank"),
        kv_rank=fields.size("kv_lora_rank"),
        nope=fields.size("qk_nope_head_dim"),
        rope=fields.size("qk_rope_head_dim"),
        value=fields.size("v_head_dim"),
    )


def _experts(fields: Fields, layers: int) -> Experts:
    fields.only("scoring_func", "sigmoid")
    fields.only("topk_method", "noaux_tc")
    if fields.raw("mlp_layer_types") is None:
        dense = fields.count("first_k_dense_replace", 1)
        sparse = tuple(layer >= dense for layer in range(layers))
    else:
        kinds = fields.each("mlp_layer_types", layers, "dense", "sparse")
        sparse = tuple(kind == "sparse" for kind in kinds)
    experts = Experts(
        routed=fields.size("n_routed_experts"),
        per_token=fields.size("num_experts_per_tok"),
        shared=fields.count("n_shared_experts", 0),
        intermediate=fields.size("moe_intermediate_size"),
        groups=fields.size("n_group", 1),
        top_groups=fields.size("topk_group", 1),
        normalize=fields.flag("norm_topk_prob", True),
        scale=fields.number("routed_scaling_factor", 1.0),
        sparse=sparse,
    )
    per_group, rest = divmod(experts.routed, experts.groups)
    if rest or experts.top_groups > experts.groups or experts.per_token > per_group * experts.top_groups:
        raise CheckpointError(
            f"config.json: {experts.per_token} of {experts.routed} experts cannot be chosen from "
            f"{experts.top_groups} of {experts.groups} groups"
        )
    return experts
