"""1,000 texts classified: through constrained chat, one request each, and all in one request.

Constrained chat is one prefill of a text's tokens too: what follows the first token of a label is forced,
the end included, and nothing is computed for it. So the model's work is the same, and `classify` gains only
what a generation costs beside it, and the probabilities. Without forced tokens `chat` decodes the
label token by token. The tokens that the graph computes are printed.

CPU is this process's, of model and daemon together; it tells more than the wall clock on a busy machine.
The ways take turns, each with another part of the texts, so that none finds its prompts computed already.

usage: python -m tests.bench.bench_classify [--engine FOLDER] [--texts N]
"""

import argparse
import asyncio
import contextlib
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from daemon.agent.agent import Agent
from daemon.agent.job import Job
from daemon.bundled import CHECKPOINT, bundled_engine
from daemon.tools.registry import Registry
from engines.serve.engine import Engine
from engines.serve.masks import GrammarState
from schemas.request import Request
from tests.bench.bench_bfcl import random_engine
from tests.single import single

LABELS = ["refund", "order status", "complaint", "greeting", "technical problem", "account", "payment"]
TEXTS = (
    "Where is order A{0}?",
    "订单 A{0} 到哪了？我等了三天了",
    "Look up user U{0}",
    "The payment service is down since {0}",
    "cancel ticket T{0}",
    "hello number {0}",
)
AT_ONCE = 64
PART = 250  # texts


def ways(texts: list[str]) -> dict[str, list[Request]]:
    system = f"Classify the user's text. Answer with one of these labels: {', '.join(LABELS)}"
    choice = {"type": "choice", "choice": LABELS}
    chats = [
        Request(
            messages=[{"role": "system", "content": system}, {"role": "user", "content": text}],
            tools=[],
            response_format=choice,
        )
        for text in texts
    ]
    return {
        "chat without forced tokens": chats,
        "chat": chats,
        "classify": [Request(query=text, task="classify", labels=LABELS) for text in texts],
        "classify, one request": [Request(texts=texts, task="classify", labels=LABELS)],
    }


async def run(agent: Agent, requests: list[Request]) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, request: Request) -> None:
        async with room:
            reply = await agent.run(Job(request, str(number)))
        assert reply.structured is not None, reply

    await asyncio.gather(*(one(number, request) for number, request in enumerate(requests)))


@dataclass
class Cost:
    """Sums over texts: seconds, and tokens that the graph computed."""

    wall: float = 0.0
    cpu: float = 0.0
    prefilled: int = 0
    decoded: int = 0

    def add(self, engine: Engine, work: Callable[[], None]) -> None:
        before, wall, cpu = engine.stats(), time.perf_counter(), time.process_time()
        work()
        self.wall, self.cpu = self.wall + time.perf_counter() - wall, self.cpu + time.process_time() - cpu
        after = engine.stats()
        self.prefilled += after.tokens_prefilled - before.tokens_prefilled
        self.decoded += after.decode_rows - before.decode_rows


def bench(folder: Path, count: int) -> None:
    engine = Engine.load(folder, slots=AT_ONCE, capacity=512)
    engine.start()
    agent = Agent(single(engine), Registry())
    chance = random.Random(1)
    texts = [chance.choice(TEXTS).format(chance.randint(1000, 9999)) for _ in range(count)]
    costs = {name: Cost() for name in ways(texts)}
    parts = [texts[at : at + PART] for at in range(0, count, PART)]
    for turn in range(-1, len(parts)):
        for place, (name, cost) in enumerate(costs.items()):
            requests = ways(parts[(turn + place) % len(parts)])[name]
            plain = patch.object(GrammarState, "follow", lambda _: [])
            with plain if "without" in name else contextlib.nullcontext():
                warm_up = Cost() if turn < 0 else cost
                warm_up.add(engine, lambda requests=requests: asyncio.run(run(agent, requests)))
    engine.close()
    base = costs["chat"]
    for name, cost in costs.items():
        print(
            f"  {name:27} {count / cost.wall:8.0f} texts/s  {cost.cpu / count * 1e3:6.2f} ms CPU each  "
            f"{base.wall / cost.wall:5.2f}x by wall, {base.cpu / cost.cpu:5.2f}x by CPU;  tokens each: "
            f"{cost.prefilled / count:.1f} prefilled, {cost.decoded / count:.1f} decoded"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--engine", type=Path, help="engine folder; default: the bundled model, or random weights"
    )
    parser.add_argument("--texts", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        if options.engine or CHECKPOINT.is_dir():
            bench(options.engine or bundled_engine(), options.texts)
        else:
            bench(random_engine(Path(work)), options.texts)


if __name__ == "__main__":
    main()
