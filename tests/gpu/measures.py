"""What `make gpu-check` measures, on any runtime; and the table it prints. Nothing here needs a GPU."""

import time
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from engines.serve.kernels.table import choice_table
from engines.serve.prompt import Sampling

TOLERANCE = 1e-2  # of the norm of a row's logits, in bfloat16
CERTAIN = 6 * TOLERANCE  # of the logits' root mean square: a greedy token ahead by this is the same one


class Line(NamedTuple):
    """met: None where nothing is promised."""

    what: str
    value: str
    goal: str = ""
    met: bool | None = None


def table(lines: Iterable[Line]) -> list[str]:
    """The lines, in columns; says which goals are missed."""
    rows = [
        (line.what, line.value, line.goal, {None: "", True: "ok", False: "MISSED"}[line.met])
        for line in lines
    ]
    rows.insert(0, ("what", "measured", "goal", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def relative_errors(logits, reference):
    """‖out − ref‖ / ‖ref‖ of each row of [n, V]."""
    reference = np.asarray(reference, np.float64)
    return np.linalg.norm(logits - reference, axis=1) / np.linalg.norm(reference, axis=1)


def prefill_last(runtime, prompts):
    """Logits behind the last token of each prompt."""
    runtime.prefill(range(len(prompts)), prompts, np.zeros(len(prompts), np.int64))
    return runtime.logits(range(len(prompts)))


def greedy_agreement(runtime, golden):
    """(certain, equal): of the reference's greedy tokens, how many bfloat16 cannot change, and how many of
    those the runtime would have chosen when it was fed the reference's tokens before them."""
    prompts, generated, margins = golden["prompts"], golden["generated"], golden["margins"]
    sure = margins > CERTAIN * np.sqrt(np.mean(np.square(golden["logits"], dtype=np.float64)))
    logits, equal = prefill_last(runtime, prompts), 0
    lengths = np.array([len(prompt) for prompt in prompts])
    for step in range(generated.shape[1]):
        equal += int((sure[:, step] & (logits.argmax(axis=1) == generated[:, step])).sum())
        if step + 1 < generated.shape[1]:
            runtime.decode(generated[:, step].astype(np.int64), lengths + step)
            logits = runtime.logits(range(len(prompts)))
    return int(sure.sum()), equal


def alone_and_together(runtime, prompts):
    """Logits of each prompt's last token, decoded alone and decoded in one batch, [n, V] each."""
    ends = np.array([len(prompt) - 1 for prompt in prompts])
    last = np.array([prompt[-1] for prompt in prompts], np.int64)
    alone = []
    for prompt, end in zip(prompts, ends, strict=True):
        runtime.prefill(range(1), [prompt[:-1]], np.zeros(1, np.int64))
        runtime.decode(prompt[-1:], np.array([end]))
        alone.append(runtime.logits(range(1))[0])
    runtime.prefill(
        range(len(prompts)), [prompt[:-1] for prompt in prompts], np.zeros(len(prompts), np.int64)
    )
    runtime.decode(last, ends)
    return np.array(alone), runtime.logits(range(len(prompts)))


def step_seconds(runtime, rows, count, *, ahead=True, draw=True):
    """Seconds per decode step of `rows`, as the engine asks for them.

    ahead: a step is asked for before the tokens it is fed are read. draw: False leaves drawing and reading
    out, so that nothing but the step is left.
    """
    choices = choice_table([Sampling()] * rows, [0] * rows, [0] * rows)
    choices["slot"] = np.arange(rows)
    fed = -1 - np.arange(rows)
    runtime.decode(np.ones(rows, np.int64), np.zeros(rows, np.int64))
    pending = runtime.sample(choices)
    runtime.finish()
    began = time.perf_counter()
    for position in range(1, count + 1):
        if draw and not ahead:
            pending.wait()
        runtime.decode(fed, np.full(rows, position % runtime.capacity))
        if draw:
            if ahead:
                pending.wait()
            pending = runtime.sample(choices)
    runtime.finish()
    return (time.perf_counter() - began) / count


def bytes_per_step(plan_bytes, sizes):
    """Bytes of a quantized plan's weights that a decode step reads: all but the table of embeddings, which is
    bfloat16 and of which it reads a row per token."""
    return plan_bytes - 2 * sizes.vocab_size * sizes.hidden
