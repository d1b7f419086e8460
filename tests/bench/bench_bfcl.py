"""Does every call under grammar fit the caller's schema? BFCL's live_simple: 258 schemas of real users.

Cut are those of the valid ones that were closed early because the tokens ran out. Decode steps are counted
once more with forced tokens sampled one by one like all others.

usage: python -m tests.bench.bench_bfcl [live_simple.jsonl] [--max-tokens N] [--verbose]
"""

import argparse
import asyncio
import contextlib
import io
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from unittest.mock import patch

from daemon.agent.agent import Agent
from daemon.agent.job import Job
from daemon.bundled import CHECKPOINT, bundled_engine
from daemon.tools.registry import Registry
from engines.build import build
from engines.serve.engine import Engine
from engines.serve.masks import GrammarState
from schemas.request import Request
from tests.bench.random_model import Shape, write_checkpoint, write_tokenizer
from tests.bfcl import EXCERPT, cases, problem
from tests.single import single

SHAPE = Shape(64, 2, 2, 1, 32, 128, 1536, context=4096)
TEMPLATE = CHECKPOINT.parent / "chat_template.jinja"


def random_engine(folder: Path) -> Path:
    """An engine folder whose model knows nothing."""
    write_checkpoint(folder / "checkpoint", SHAPE)
    write_tokenizer(folder / "checkpoint", SHAPE.vocab_size)
    shutil.copy(TEMPLATE, folder / "checkpoint")
    build(folder / "checkpoint", folder / "engine", precision="fp32")
    return folder / "engine"


async def run(
    folder: Path, requests: list[dict], max_tokens: int, temperature: float, verbose: bool
) -> float:
    """Prints what came of the requests; returns how many decode steps each took."""
    engine = Engine.load(folder, slots=16)
    engine.start()
    agent = Agent(single(engine), Registry(), max_tokens=max_tokens)
    sampling = {"temperature": temperature, "seed": 1}
    began = time.perf_counter()
    try:
        replies = await asyncio.gather(
            *(agent.run(Job(Request(**request, sampling=sampling), request["id"])) for request in requests)
        )
    finally:
        engine.close()
    count = Counter[str]()
    for request, reply in zip(requests, replies, strict=True):
        wrong = problem(request, reply)
        refused = reply.status == "rejected" and reply.error.code.value == "unsupported_schema"
        kind = "refused" if refused else "wrong" if wrong else "valid"
        count[kind] += 1
        count["cut"] += kind == "valid" and reply.finish_reason == "length"
        if wrong and (verbose or not refused):
            print(f"    {request['id']}: {wrong}")
    seconds = time.perf_counter() - began
    told = [f"{count[kind]} {kind}" for kind in ("valid", "cut", "refused", "wrong")]
    print(f"  temperature {temperature}: of {len(requests)}: {', '.join(told)}; {seconds:.1f} s")
    return engine.stats().decode_rows / len(requests)


def steps_saved(folder: Path, requests: list[dict], max_tokens: int, steps: float) -> None:
    with patch.object(GrammarState, "follow", lambda _: []), contextlib.redirect_stdout(io.StringIO()):
        plain = asyncio.run(run(folder, requests, max_tokens, 0.0, False))
    print(
        f"  decode steps per call: {steps:.1f}, without forced tokens {plain:.1f}: "
        f"{1 - steps / plain:.0%} saved (goal: 25%)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", type=Path, nargs="?", default=EXCERPT)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--verbose", action="store_true", help="say why schemas were refused")
    options = parser.parse_args()
    requests = cases(options.cases)
    with tempfile.TemporaryDirectory() as work:
        engines = {"random weights": random_engine(Path(work))}
        if CHECKPOINT.is_dir():
            engines["bundled model"] = bundled_engine()
        for name, folder in engines.items():
            print(name)
            steps, _ = (
                asyncio.run(run(folder, requests, options.max_tokens, temperature, options.verbose))
                for temperature in (0.0, 1.0)
            )
            steps_saved(folder, requests, options.max_tokens, steps)


if __name__ == "__main__":
    main()
