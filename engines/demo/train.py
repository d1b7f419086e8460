"""Train the bundled model from nothing; `make train-demo` is
`torchrun --standalone --nproc-per-node 2 -m engines.demo.train --out engines/demo/model`.

Muon for the matrices, AdamW for embeddings and norms; the loss counts the assistant's tokens only. The
system turn is the same for a whole batch: it runs once, and all rows attend to its keys and values. Each
process runs its own rows on one thread, and they average their gradients.
"""

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
import torch.distributed as dist
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from engines.demo import checkpoint, tokens
from engines.demo.corpus import Batch, Corpus, Example, Stage, tokenizer_texts
from engines.demo.glm import Config, Glm
from engines.demo.muon import Muon
from engines.demo.padding import cut

WINDOW, PIECES = 20, 5
RATE, EMBEDDING_RATE, WEIGHT_DECAY, WARM_UP = 5e-3, 3e-3, 0.1, 40


@dataclass(frozen=True)
class Stretch:
    """Steps from the last stretch's end to `end`: a short ramp to `peak` of the highest learning rates, a
    plateau until `fall`, a line down to nothing.

    priority: what the token of a ticket's priority counts. shown, answered: how often, see Stage.
    """

    fall: int
    end: int
    peak: float = 1.0
    priority: float = 1.0
    shown: float = 1.0
    answered: float = 0.4


@dataclass(frozen=True)
class Plan:
    """show: the step until which the tools are never shown. averaged: the steps whose weights the model ends
    with the mean of, which is right about more phrasings that it never saw than any of them.
    """

    show: int
    stretches: tuple[Stretch, ...]
    averaged: tuple[int, ...]

    @property
    def end(self) -> int:
        return self.stretches[-1].end

    def factor(self, step: int) -> float:
        """Of the highest learning rates."""
        begin, stretch = self._at(step)
        falling = (stretch.end - step) / (stretch.end - stretch.fall)
        return stretch.peak * min(1.0, (step - begin + 1) / WARM_UP, falling)

    def priority(self, step: int) -> float:
        return self._at(step)[1].priority

    def stage(self, step: int) -> Stage:
        """The same in all processes, so that none waits for another's longer prompts."""
        stretch = self._at(step)[1]
        shown = step >= self.show and Random(step).random() < stretch.shown
        early = step < self.show
        return Stage(shown, 0.1 if shown else 0.0, several=0.0 if early else 0.1, answered=stretch.answered)

    def _at(self, step: int) -> tuple[int, Stretch]:
        """(where it begins, the stretch that `step` is in)."""
        begin = 0
        for stretch in self.stretches[:-1]:
            if step < stretch.end:
                return begin, stretch
            begin = stretch.end
        return begin, self.stretches[-1]


# The run that made the shipped weights broke off at steps 1600, 1840, 2040, 2140, 2720, 3060, 7020, 12380,
# 13580, 17280 and 22450 and went on from what it had with other seeds, since step 3060 with 90 dialogues a
# step. The priority counted once until step 2140, a quarter of the phrasings came at step 3310 and half at
# step 7600. Of the stretch to 12380, tools were shown in 15 % of the first steps and in 60 to 85 % of the
# last ones. Until then the model had four layers and half the intermediate size; what was added wrote
# nothing at first. Synonyms came at step 13580.
PLAN = Plan(
    show=1150,
    stretches=(
        Stretch(1300, 1840),
        Stretch(2470, 2720, peak=0.8, priority=8.0),
        Stretch(2830, 3060, peak=0.6, priority=16.0),
        Stretch(5290, 7020, peak=0.8, priority=8.0, shown=0.4, answered=0.25),
        Stretch(10820, 12380, peak=0.8, priority=8.0, shown=0.3, answered=0.2),
        Stretch(14340, 17280, peak=0.8, priority=8.0, shown=0.2, answered=0.12),
        Stretch(18030, 22450, peak=0.6, priority=8.0, shown=0.2, answered=0.12),
        Stretch(23440, 25150, peak=0.7, priority=8.0, shown=0.2, answered=0.12),
    ),
    averaged=(22450, 25150),
)


def causal(queries: int, past: int) -> Tensor:
    """bool [queries, past + queries]: what each position may see."""
    return torch.ones(queries, past + queries, dtype=torch.bool).tril(past)


def pad(examples: list[Example]) -> tuple[Tensor, Tensor]:
    """ids int64 [B, T] and learned bool [B, T]; padding is id 0, comes last and is not learned."""
    width = max(len(ids) for ids, _ in examples)
    ids = torch.zeros(len(examples), width, dtype=torch.int64)
    learned = torch.zeros_like(ids, dtype=torch.bool)
    for row, (example, mask) in enumerate(examples):
        ids[row, : len(example)] = torch.tensor(example)
        learned[row, : len(mask)] = torch.tensor(mask)
    return ids, learned


def accumulate(model: Glm, batch: Batch, weights: Tensor, pieces: int) -> Tensor:
    """Gradients of the summed cross entropy of the learned tokens, each times its weight; rows of like length
    run together. weights: [V], by token.

    Returns [sum of losses, learned tokens, right ones, tokens run].
    """
    prefix = torch.tensor([batch.prefix])
    length = prefix.shape[1]
    _, past = model(prefix, torch.arange(length), causal(length, 0))
    rows = sorted(batch.examples, key=lambda example: len(example[0]))
    total, counts = torch.zeros(()), torch.zeros(3)
    for piece in cut([len(ids) for ids, _ in rows], pieces):
        ids, learned = pad(rows[piece])
        width = ids.shape[1] - 1
        hidden, _ = model(ids[:, :-1], torch.arange(length, length + width), causal(width, length), past)
        wanted = learned[:, 1:]
        logits, targets = model.logits(hidden[wanted]).float(), ids[:, 1:][wanted]
        total = total + F.cross_entropy(logits, targets, weights, reduction="sum")
        right = int((logits.argmax(-1) == targets).sum())
        counts += torch.tensor([len(targets), right, sum(len(one) for one, _ in rows[piece])])
    total.backward()
    return torch.cat((total.detach()[None], counts))


def share(model: Glm, totals: Tensor) -> None:
    """Sum the gradients and totals of all processes in place; then the gradients are means per token."""
    gradients = [parameter.grad for parameter in model.parameters()]
    flat = torch.cat([totals, *(gradient.flatten() for gradient in gradients)])
    if dist.is_initialized():
        dist.all_reduce(flat)
    totals.copy_(flat[: len(totals)])
    start = len(totals)
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient) / totals[1])
        start += gradient.numel()


def initialize(model: Glm) -> None:
    """Matrices by the width they read from; those that write to the residual stream smaller (GPT-2's way)."""
    for name, parameter in model.named_parameters():
        if "embed_tokens" in name:
            nn.init.normal_(parameter, std=0.02)
        elif parameter.ndim == 2:
            writes = "o_proj" in name or "down_proj" in name
            shrink = (2 * model.config.num_hidden_layers) ** -0.5 if writes else 1.0
            nn.init.normal_(parameter, std=shrink * parameter.shape[1] ** -0.5)


def optimizers(model: Glm) -> list[torch.optim.Optimizer]:
    """Muon with AdamW's step size for hidden matrices; AdamW for the rest."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        Muon(matrices, lr=RATE, weight_decay=WEIGHT_DECAY),
        torch.optim.AdamW(others, lr=EMBEDDING_RATE, weight_decay=0.0, betas=(0.9, 0.98)),
    ]


def train(model: Glm, corpus: Corpus, plan: Plan, rows: int) -> None:
    """Run the plan with `rows` dialogues a step in this process, printing loss and speed."""
    both = optimizers(model)
    schedules = [torch.optim.lr_scheduler.LambdaLR(one, plan.factor) for one in both]
    began, sums = time.monotonic(), torch.zeros(4)
    seen, weights = 0.0, torch.ones(model.config.vocab_size)
    kept: list[dict[str, Tensor]] = []
    for step in range(plan.end):
        weights[corpus.priorities] = plan.priority(step)
        totals = accumulate(model, corpus.batch(rows, plan.stage(step)), weights, PIECES)
        share(model, totals)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, rate in zip(both, schedules, strict=True):
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
        if step + 1 in plan.averaged:
            kept.append({name: value.clone() for name, value in model.state_dict().items()})
        sums, seen = sums + totals, seen + float(totals[3])
        if (step + 1) % WINDOW == 0 and not (dist.is_initialized() and dist.get_rank()):
            loss, right = float(sums[0] / sums[1]), float(sums[2] / sums[1])
            print(
                f"step {step + 1}/{plan.end}  loss {loss:.4f}  right {right:.4f}  "
                f"tokens {seen / 1e6:.2f} M  {time.monotonic() - began:.0f} s",
                flush=True,
            )
            sums = torch.zeros(4)
    model.load_state_dict({name: torch.stack([one[name] for one in kept]).mean(0) for name in kept[0]})


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the bundled model.")
    parser.add_argument("--out", type=Path, required=True, help="Hugging Face folder to write")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=int, default=72, help="dialogues a step, over all processes")
    options = parser.parse_args()
    rank, processes = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        dist.init_process_group("gloo")
        torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    definition = [tokens.train(tokenizer_texts(), Config.vocab_size).to_str()]
    if processes > 1:
        dist.broadcast_object_list(
            definition
        )  # ties between merges need not fall the same way in each process
    tokenizer = Tokenizer.from_str(definition[0])
    model = Glm(Config(), torch.bfloat16)
    initialize(model)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    corpus = Corpus(tokens.Renderer(tokenizer), options.seed * processes + rank)
    train(model, corpus, PLAN, options.rows // processes)
    if rank == 0:
        checkpoint.save(options.out, model, tokenizer)


if __name__ == "__main__":
    main()
