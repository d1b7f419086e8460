"""Train the bundled model from nothing: `python -m engines.demo.train --out engines/demo/model`.

Muon for the matrices, AdamW for embeddings and norms; the loss counts the assistant's tokens only. The
system turn is the same for a whole batch: it runs once, and all rows attend to its keys and values.
"""

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from engines.demo import checkpoint, tokens
from engines.demo.corpus import Batch, Corpus, tokenizer_texts
from engines.demo.glm import Config, Glm
from engines.demo.initial import initialize
from engines.demo.muon import Muon

LEARNING_RATE, FLOOR, WARM_UP = 4e-3, 0.03, 20


def causal(queries: int, past: int) -> Tensor:
    """bool [queries, past + queries]: what each position may see."""
    return torch.ones(queries, past + queries, dtype=torch.bool).tril(past)


def pad(batch: Batch) -> tuple[Tensor, Tensor]:
    """ids int64 [B, T] and learned bool [B, T]; padding is id 0, comes last and is not learned."""
    width = max(len(ids) for ids, _ in batch.examples)
    ids = torch.zeros(len(batch.examples), width, dtype=torch.int64)
    learned = torch.zeros_like(ids, dtype=torch.bool)
    for row, (example, mask) in enumerate(batch.examples):
        ids[row, : len(example)] = torch.tensor(example)
        learned[row, : len(mask)] = torch.tensor(mask)
    return ids, learned


def loss(model: Glm, batch: Batch) -> tuple[Tensor, Tensor, int]:
    """(mean cross entropy of the learned tokens, share of them predicted right, tokens run)."""
    prefix = torch.tensor([batch.prefix])
    length = prefix.shape[1]
    _, past = model(prefix, torch.arange(length), causal(length, 0))
    ids, learned = pad(batch)
    width = ids.shape[1] - 1
    hidden, _ = model(ids[:, :-1], torch.arange(length, length + width), causal(width, length), past)
    wanted = learned[:, 1:]
    logits, targets = model.logits(hidden[wanted]), ids[:, 1:][wanted]
    right = (logits.argmax(-1) == targets).float().mean()
    return F.cross_entropy(logits, targets), right, ids.numel()


def optimizers(model: Glm) -> list[torch.optim.Optimizer]:
    """Muon with AdamW's step size for hidden matrices; AdamW for the rest."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        Muon(matrices, lr=LEARNING_RATE, weight_decay=0.05),
        torch.optim.AdamW(others, lr=LEARNING_RATE, weight_decay=0.0, betas=(0.9, 0.98)),
    ]


def schedule(step: int, steps: int) -> float:
    """Factor of the learning rate: a short ramp, then a cosine down to FLOOR."""
    cosine = (1 + math.cos(math.pi * step / steps)) / 2
    return min(1.0, (step + 1) / WARM_UP) * (FLOOR + (1 - FLOOR) * cosine)


def train(model: Glm, corpus: Corpus, steps: int, rows: int, keep: Callable[[], None]) -> None:
    """Run `steps` updates of `rows` dialogues each, printing loss and speed; `keep` saves every 100 steps."""
    both = optimizers(model)
    schedules = [torch.optim.lr_scheduler.LambdaLR(one, lambda step: schedule(step, steps)) for one in both]
    began, seen, mean, accuracy = time.monotonic(), 0, 0.0, 0.0
    for step, batch in enumerate(corpus.batches(steps, rows), 1):
        value, right, count = loss(model, batch)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, rate in zip(both, schedules, strict=True):
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
        seen += count
        mean += float(value.detach())
        accuracy += float(right)
        if step % 25 == 0 or step == steps:
            window = (step - 1) % 25 + 1
            seconds = time.monotonic() - began
            print(
                f"step {step}/{steps}  loss {mean / window:.4f}  right {accuracy / window:.4f}  "
                f"tokens {seen / 1e6:.2f} M  {seconds:.0f} s",
                flush=True,
            )
            mean = accuracy = 0.0
        if step % 100 == 0 or step == steps:
            keep()


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the bundled model.")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the Hugging Face checkpoint to write"
    )
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--rows", type=int, default=16, help="dialogues per step")
    parser.add_argument("--layers", type=int, default=Config.num_hidden_layers)
    parser.add_argument("--vocab-size", type=int, default=Config.vocab_size)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tokenizer = tokens.train(tokenizer_texts(), options.vocab_size)
    config = Config(vocab_size=options.vocab_size, num_hidden_layers=options.layers)
    model = Glm(config)
    initialize(model)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    corpus = Corpus(tokens.Renderer(tokenizer), options.seed)
    train(model, corpus, options.steps, options.rows, lambda: checkpoint.save(options.out, model, tokenizer))


if __name__ == "__main__":
    main()
