"""Engine throughput: how much of the bare graph's speed is left after scheduling, sampling and grammars.

usage: python -m tests.bench.bench_engine [--precision fp32|int8|int4] [--edge] [--rows 1,64] [--threads N]
"""

import argparse
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np

from engines.build import build
from engines.manifest import Manifest
from engines.serve.engine import Engine
from engines.serve.grammar import Grammar
from engines.serve.masks import GrammarCompiler, GrammarState
from engines.serve.prompt import Prompt
from engines.serve.runtime.ort import OrtRuntime
from tests.bench.random_model import BUNDLED, EDGE, write_checkpoint, write_tokenizer

CALL = {
    "type": "object",
    "properties": {
        "user_id": {"type": "string", "maxLength": 12},
        "subject": {"type": "string", "maxLength": 24},
        "amount": {"type": "integer", "minimum": 0, "maximum": 9999},
        "priority": {"enum": ["low", "normal", "high"]},
    },
    "required": ["user_id", "subject", "amount", "priority"],
    "additionalProperties": False,
}
PROMPT, ANSWER = 64, 128


def bare(folder: Path, rows: int, threads: int | None) -> float:
    """tokens/s of decode calls alone, over the same positions as the engine's answers."""
    runtime = OrtRuntime.open(folder, Manifest.load(folder), slots=rows, capacity=512, threads=threads)
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, runtime.vocab_size, rows)
    runtime.prefill(
        range(rows), [rng.integers(3, runtime.vocab_size, PROMPT)] * rows, np.zeros(rows, np.int64)
    )
    began = time.perf_counter()
    for position in range(PROMPT, PROMPT + ANSWER - 1):
        runtime.decode(tokens, np.full(rows, position, np.int64))
    return rows * (ANSWER - 1) / (time.perf_counter() - began)


def driven(folder: Path, rows: int, threads: int | None, grammar: Grammar | None) -> dict[str, float]:
    """The same through the engine, `rows` at once, twice as many in all."""
    engine = Engine.load(folder, slots=rows, capacity=512, threads=threads)
    engine.start()
    rng = np.random.default_rng(1)
    prompts = [
        rng.integers(3, engine.manifest.sizes.vocab_size, PROMPT).tolist() for _ in range(2 * rows + 1)
    ]

    def submit(ids: list[int]):
        return engine.submit(Prompt(ids, ANSWER, grammar=grammar, ignore_eos=grammar is None))

    submit(prompts.pop()).wait()
    before, began = engine.stats(), time.perf_counter()
    generations = [submit(ids) for ids in prompts]
    completions = [generation.wait() for generation in generations]
    seconds, after = time.perf_counter() - began, engine.stats()
    engine.close()
    steps = after.decode_steps - before.decode_steps
    model = after.decode_seconds - before.decode_seconds + after.prefill_seconds - before.prefill_seconds
    tokens = sum(completion.completion_tokens for completion in completions)
    return {
        "requests/s": len(prompts) / seconds,
        "tokens/s": tokens / seconds,
        "own ms/step": (after.step_seconds - before.step_seconds - model) / steps * 1e3,
        "steps/request": (after.decode_rows - before.decode_rows) / len(prompts),
        "forced %": 100 * (after.tokens_forced - before.tokens_forced) / tokens,
    }


def masks(folder: Path, rows: int = 16, walks: int = 20) -> tuple[float, float]:
    """p50 and p99 of the seconds that the masks of `rows` answers take, over random answers."""
    manifest = Manifest.load(folder)
    definition = (folder / "tokenizer.json").read_text(encoding="utf-8")
    compiler = GrammarCompiler.over(definition, manifest.sizes.vocab_size, manifest.eos_token_ids)
    bits = np.zeros((rows, -(-manifest.sizes.vocab_size // 32)), np.int32)
    rng, seconds = np.random.default_rng(0), list[float]()
    for _ in range(walks):
        states = [compiler.compile(Grammar.json_schema(CALL)) for _ in range(rows)]
        for _ in range(30):
            for state in states:
                state.follow()
            states = [state for state in states if not state.complete]
            if len(states) < rows:
                break
            began = time.perf_counter()
            for row, state in zip(bits, states, strict=True):
                state.fill(row.ctypes.data, row.nbytes)
            seconds.append(time.perf_counter() - began)
            for row, state in zip(bits, states, strict=True):
                allowed = np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little"))
                state.accept(int(rng.choice(allowed)))
    return float(np.percentile(seconds, 50)), float(np.percentile(seconds, 99))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", default="fp32", choices=("fp32", "int8", "int4"))
    parser.add_argument("--edge", action="store_true", help="the 1.5 B shape instead of the bundled one")
    parser.add_argument("--rows", default="1,4,16,64")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    shape = EDGE if options.edge else BUNDLED
    with tempfile.TemporaryDirectory() as work:
        checkpoint, folder = Path(work) / "checkpoint", Path(work) / "engine"
        write_checkpoint(checkpoint, shape)
        write_tokenizer(checkpoint, shape.vocab_size)
        build(checkpoint, folder, precision=options.precision)
        p50, p99 = masks(folder)
        print(f"masks of 16 rows: p50 {p50 * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms")
        print(
            f"  per token: p50 {p50 / 16 * 1e6:.0f} µs (goal: 100), p99 {p99 / 16 * 1e6:.0f} µs (goal: 1000)"
        )
        for rows in map(int, options.rows.split(",")):
            report(folder, rows, options.threads)


def report(folder: Path, rows: int, threads: int | None) -> None:
    """One batch size: free text against the bare graph, grammars against themselves without forced tokens."""
    ceiling, grammar = bare(folder, rows, threads), Grammar.json_schema(CALL)
    free = driven(folder, rows, threads, None)
    forced = driven(folder, rows, threads, grammar)
    with patch.object(GrammarState, "follow", lambda _: []):
        plain = driven(folder, rows, threads, grammar)
    print(f"{rows} rows")
    for label, base, figures in (
        (f"{free['tokens/s'] / ceiling:.2f} of the bare graph", "free text", free),
        (f"{forced['requests/s'] / plain['requests/s']:.2f} of unforced", "JSON schema", forced),
    ):
        print(f"  {base:12} {label:26}" + "  ".join(f"{name} {v:,.2f}" for name, v in figures.items()))
    saved = 1 - forced["steps/request"] / plain["steps/request"]
    print(f"  decode steps that forced tokens save: {saved:.0%} (goal: 25%)")


if __name__ == "__main__":
    main()
