"""The Hugging Face folder: what the recipe writes and the evaluation reads back."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from engines.demo.glm import Config, Glm
from engines.demo.tokens import CONFIG, END_TOKENS, TEMPLATE


def save(folder: Path, model: Glm, tokenizer: Tokenizer) -> None:
    """Write config.json, generation_config.json, model.safetensors (bfloat16) and the tokenizer's files."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = tokenizer.get_vocab()
    ends = [vocabulary[token] for token in END_TOKENS]

    def write(name: str, value: dict[str, object]) -> None:
        (folder / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")

    write("config.json", model.config.as_json(ends))
    write("generation_config.json", {"do_sample": False, "eos_token_id": ends, "pad_token_id": ends[0]})
    write("tokenizer_config.json", {**CONFIG, "model_max_length": model.config.max_position_embeddings})
    shutil.copyfile(TEMPLATE, folder / "chat_template.jinja")
    tokenizer.save(str(folder / "tokenizer.json"))
    weights = {
        name: value.detach().to(torch.bfloat16).contiguous() for name, value in model.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def load(folder: Path) -> tuple[Glm, Tokenizer]:
    """Read back what save wrote."""
    model = Glm(Config.from_json(json.loads((folder / "config.json").read_text("utf-8"))))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval(), Tokenizer.from_file(str(folder / "tokenizer.json"))
