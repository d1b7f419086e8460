"""The model of the fault scenarios: so small that daemons start fast, and all its weights are zero.

All tokens are equally likely to it. Greedy, it ends its turn as soon as a grammar lets it; with a temperature
it babbles, the same for the same seed.
"""

import json
import shutil
from pathlib import Path

from engines.build import build
from engines.demo import tokens
from tests.bench.random_model import Shape, write_checkpoint

SHAPE = Shape(32, 1, 2, 1, 16, 64, vocab_size=320, context=512)


def build_engine(folder: Path) -> Path:
    """The engine folder, made anew."""
    checkpoint, engine = folder / "checkpoint", folder / "engine"
    write_checkpoint(checkpoint, SHAPE)
    _erase(checkpoint / "model.safetensors")
    tokenizer = tokens.train(["small large look book pack wait gate act fail"], SHAPE.vocab_size)
    tokenizer.save(str(checkpoint / "tokenizer.json"))
    config = checkpoint / "config.json"
    ends = {"eos_token_id": [tokenizer.token_to_id(end) for end in tokens.END_TOKENS]}
    config.write_text(json.dumps(json.loads(config.read_text()) | ends))
    shutil.copy(tokens.TEMPLATE, checkpoint / "chat_template.jinja")
    build(checkpoint, engine, precision="fp32")
    return engine


def _erase(weights: Path) -> None:
    """Format: https://huggingface.co/docs/safetensors (8 bytes length of the header, header, data)."""
    data = weights.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    weights.write_bytes(data[:start] + bytes(len(data) - start))
