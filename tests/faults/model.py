"""The model of the fault scenarios: so small that daemons start fast, and it has no mind of its own.

Whatever it reads, ending its turn is a little likelier to it than a new line, and that than any other token.
So, greedy, it answers nothing as soon as a grammar lets it; with a temperature it babbles, the same for the
same seed.
"""

import json
import shutil
from pathlib import Path

import numpy as np

from engines.build import build
from engines.demo import tokens
from tests.bench.random_model import Shape, write_checkpoint

SHAPE = Shape(32, 1, 2, 1, 16, 64, vocab_size=320, context=512)


def build_engine(folder: Path) -> Path:
    """The engine folder, made anew."""
    checkpoint, engine = folder / "checkpoint", folder / "engine"
    write_checkpoint(checkpoint, SHAPE)
    tokenizer = tokens.train(["small large look book pack wait gate act fail"], SHAPE.vocab_size)
    tokenizer.save(str(checkpoint / "tokenizer.json"))
    likely = [tokenizer.token_to_id(token) for token in ("<|endoftext|>", "Ċ")]  # Ċ: byte-level for "\n"
    _flatten(checkpoint / "model.safetensors", likely)
    config = checkpoint / "config.json"
    ends = {"eos_token_id": [tokenizer.token_to_id(end) for end in tokens.END_TOKENS]}
    config.write_text(json.dumps(json.loads(config.read_text()) | ends))
    shutil.copy(tokens.TEMPLATE, checkpoint / "chat_template.jinja")
    build(checkpoint, engine, precision="fp32")
    return engine


def _flatten(weights: Path, likely: list[int]) -> None:
    """Format: https://huggingface.co/docs/safetensors (8 bytes length of the header, header, data).

    With all else zero, a token's logit is its embedding's value times the width.
    """
    data = bytearray(weights.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    data[start:] = bytes(len(data) - start)

    def write(name: str, values: np.ndarray) -> None:
        first, last = header[name]["data_offsets"]
        data[start + first : start + last] = values.astype("<f4").tobytes()

    embedding = np.full((SHAPE.vocab_size, SHAPE.hidden), 0.001)
    embedding[likely] *= np.arange(1 + len(likely), 1, -1)[:, None]
    write("model.embed_tokens.weight", embedding)
    write("model.norm.weight", np.ones(SHAPE.hidden))
    weights.write_bytes(data)
