"""Train the bundled model from nothing: `python -m engines.demo.train --out engines/demo/model`.

Muon for the matrices, AdamW for embeddings and norms; the loss counts the assistant's tokens only. The
system turn is the same for a whole batch: it runs once, and all rows attend to its keys and values.
"""

import argparse
import math
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engines.demo import checkpoint, tokens
from engines.demo.corpus import Batch, Corpus, Course, tokenizer_texts
from engines.demo.glm import Config, Glm
from engines.demo.muon import Muon

FLOOR, WINDOW = 0.03, 25
# Many small steps until the model copies, then large ones with lower rates until it copies reliably.
COURSES = (
    Course(3000, 16, 6e-3, 4e-3, weight_decay=0.05, warm_up=40, plain=0.5, several=0.25),
    Course(1100, 48, 3e-3, 2e-3, weight_decay=0.15, warm_up=20, plain=0.3, several=0.15),
)


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


def initialize(model: Glm) -> None:
    """Matrices by the width they read from; those that write to the residual stream smaller (GPT-2's way)."""
    for name, parameter in model.named_parameters():
        if "embed_tokens" in name:
            nn.init.normal_(parameter, std=0.02)
        elif parameter.ndim == 2:
            writes = "o_proj" in name or "down_proj" in name
            shrink = (2 * model.config.num_hidden_layers) ** -0.5 if writes else 1.0
            nn.init.normal_(parameter, std=shrink * parameter.shape[1] ** -0.5)


def optimizers(model: Glm, course: Course) -> list[torch.optim.Optimizer]:
    """Muon with AdamW's step size for hidden matrices; AdamW for the rest."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        Muon(matrices, lr=course.rate, weight_decay=course.weight_decay),
        torch.optim.AdamW(others, lr=course.embedding_rate, weight_decay=0.0, betas=(0.9, 0.98)),
    ]


def schedule(step: int, course: Course) -> float:
    """Factor of the learning rates: a short ramp, then a cosine down to FLOOR."""
    cosine = (1 + math.cos(math.pi * step / course.steps)) / 2
    return min(1.0, (step + 1) / course.warm_up) * (FLOOR + (1 - FLOOR) * cosine)


def train(model: Glm, corpus: Corpus, course: Course) -> None:
    """Run one course, printing loss and speed."""
    both = optimizers(model, course)
    schedules = [torch.optim.lr_scheduler.LambdaLR(one, lambda step: schedule(step, course)) for one in both]
    began, seen, mean, accuracy = time.monotonic(), 0, 0.0, 0.0
    for step, batch in enumerate(corpus.batches(course), 1):
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
        if step % WINDOW == 0:
            print(
                f"step {step}/{course.steps}  loss {mean / WINDOW:.4f}  right {accuracy / WINDOW:.4f}  "
                f"tokens {seen / 1e6:.2f} M  {time.monotonic() - began:.0f} s",
                flush=True,
            )
            mean = accuracy = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the bundled model.")
    parser.add_argument("--out", type=Path, required=True, help="Hugging Face folder to write")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tokenizer = tokens.train(tokenizer_texts(), Config.vocab_size)
    model = Glm(Config())
    initialize(model)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    for course in COURSES:
        train(model, Corpus(tokens.Renderer(tokenizer), options.seed), course)
        checkpoint.save(options.out, model, tokenizer)


if __name__ == "__main__":
    main()
