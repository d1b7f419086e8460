"""1,000 texts classified: through constrained chat, one request each, and all in one request.

CPU is this process's, of model and daemon together; it tells more than the wall clock on a busy machine.

usage: python -m tests.bench.bench_classify [--engine FOLDER] [--texts N]
"""

import argparse
import asyncio
import random
import tempfile
import time
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


def bench(folder: Path, count: int) -> None:
    engine = Engine.load(folder, slots=AT_ONCE, capacity=512)
    engine.start()
    agent = Agent(single(engine), Registry())
    chance = random.Random(1)
    texts = [chance.choice(TEXTS).format(chance.randint(1000, 9999)) for _ in range(count)]
    base = None
    for name, requests in ways(texts).items():
        with patch.object(
            GrammarState, "follow", (lambda _: []) if "without" in name else GrammarState.follow
        ):
            asyncio.run(run(agent, requests[:AT_ONCE]))
            wall, cpu = time.perf_counter(), time.process_time()
            asyncio.run(run(agent, requests))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        base = base or {"wall": wall, "cpu": cpu}
        if name == "chat":
            base = {"wall": wall, "cpu": cpu}
        print(
            f"  {name:27} {count / wall:8.0f} texts/s  {cpu / count * 1e3:6.2f} ms CPU each  "
            f"{base['wall'] / wall:5.2f}x by wall, {base['cpu'] / cpu:5.2f}x by CPU",
            flush=True,
        )
    engine.close()


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
