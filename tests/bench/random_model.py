"""Checkpoints of any shape with random weights and a tokenizer trained on nothing in particular."""

import json
import random
import string
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIALS = ["<|endoftext|>", "<|user|>", "<|observation|>", "<|assistant|>"]


@dataclass(frozen=True)
class Shape:
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab_size: int
    context: int = 1024


BUNDLED = Shape(256, 4, 4, 2, 32, 384, 2560)  # about what ships in engines/demo
EDGE = Shape(2048, 28, 16, 4, 128, 6144, 59264)  # GLM-Edge-1.5B


def write_checkpoint(folder: Path, shape: Shape, seed: int = 0) -> None:
    """A tied `glm` checkpoint as float32 safetensors (format: https://huggingface.co/docs/safetensors)."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_type": "glm",
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": 1e-5,
        "attention_bias": False,
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "eos_token_id": [0, 1, 2],
        "pad_token_id": 0,
        "partial_rotary_factor": 0.5,
        "rope_theta": 10000.0,
    }
    (folder / "config.json").write_text(json.dumps(config))
    wide, narrow = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocab_size, shape.hidden)}
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}."
        shapes |= {
            f"{prefix}input_layernorm.weight": (shape.hidden,),
            f"{prefix}post_attention_layernorm.weight": (shape.hidden,),
            f"{prefix}self_attn.q_proj.weight": (wide, shape.hidden),
            f"{prefix}self_attn.k_proj.weight": (narrow, shape.hidden),
            f"{prefix}self_attn.v_proj.weight": (narrow, shape.hidden),
            f"{prefix}self_attn.o_proj.weight": (shape.hidden, wide),
            f"{prefix}mlp.gate_up_proj.weight": (2 * shape.intermediate, shape.hidden),
            f"{prefix}mlp.down_proj.weight": (shape.hidden, shape.intermediate),
        }
    shapes["model.norm.weight"] = (shape.hidden,)
    rng = np.random.default_rng(seed)
    header, offset = {}, 0
    for name, size in shapes.items():
        stop = offset + 4 * int(np.prod(size))
        header[name] = {"dtype": "F32", "shape": size, "data_offsets": [offset, stop]}
        offset = stop
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for size in shapes.values():
            values = rng.standard_normal(size, np.float32)
            file.write((values * 0.05 if len(size) > 1 else 1 + values * 0.1).tobytes())


def write_tokenizer(folder: Path, vocab_size: int, seed: int = 0) -> None:
    """Byte-level BPE over made-up words."""
    rng = random.Random(seed)
    words = ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 9))) for _ in range(4 * vocab_size)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    json_like = [json.dumps({a: b, b: 3}) for a, b in pairwise(words)]
    tokenizer.train_from_iterator([*words, *json_like], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
