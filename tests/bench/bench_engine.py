"""Engine throughput: how much of the bare graph's speed is left after scheduling, sampling and grammars.

usage: python -m tests.bench.bench_engine [--precision fp32|int8|int4] [--edge] [--seconds N]
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from engines.build import build
from engines.manifest import Manifest
from engines.serve.engine import Engine
from engines.serve.grammar import Grammar
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
    model = after.decode_seconds - before.decode_seconds
    prefill = after.prefill_seconds - before.prefill_seconds
    tokens = sum(completion.completion_tokens for completion in completions)
    return {
        "tokens/s": tokens / seconds,
        "decode tokens/s": (after.decode_rows - before.decode_rows) / model,
        "own ms/step": (after.step_seconds - before.step_seconds - model - prefill) / steps * 1e3,
        "mask ms/step": (after.mask_seconds - before.mask_seconds) / steps * 1e3,
        "forced %": 100 * (after.tokens_forced - before.tokens_forced) / tokens,
        "steps saved %": 100 * (after.decode_steps_saved - before.decode_steps_saved) / tokens,
    }


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
        grammar = Grammar.json_schema(CALL)
        for rows in map(int, options.rows.split(",")):
            ceiling = bare(folder, rows, options.threads)
            print(f"{rows} rows: bare decode {ceiling:,.0f} tokens/s")
            for label, with_grammar in (("free text", None), ("JSON schema", grammar)):
                figures = driven(folder, rows, options.threads, with_grammar)
                line = "  ".join(f"{name} {value:,.2f}" for name, value in figures.items())
                print(f"  {label:12}{figures['tokens/s'] / ceiling:5.2f} of it  {line}")


if __name__ == "__main__":
    main()
