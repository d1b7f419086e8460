"""Tool retrieval with 8, 30 and 100 tools: the desk's eight among strangers, on the hand-written requests.

Found: the right tool is among those shown to the model; beside it, had the desk's tools no keywords, only
their English descriptions. Called: the model calls it (greetings and requests out of scope: none).

usage: python -m tests.bench.bench_retrieval [--engine FOLDER] [--found-only] [--max-tools N] [--held-out]
"""

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from daemon.agent.agent import Agent
from daemon.agent.job import Job
from daemon.agent.retrieval import shortlist
from daemon.agent.toolset import Toolset
from daemon.bundled import CHECKPOINT, bundled_engine
from daemon.demo.database import Database
from daemon.demo.desk import Desk, declare
from daemon.tools.registry import Registry
from daemon.tools.tool import Tool
from engines.demo.cases import Case, hand_written, held_out
from engines.serve.engine import Engine
from schemas.request import Request
from tests.single import single

STRANGERS = Path(__file__).parents[1] / "data" / "bfcl" / "functions.jsonl"


def desk(folder: Path) -> Registry:
    with Registry().collecting() as registry:
        declare(Desk(Database(folder / "desk.sqlite3")))
    return registry


def offer(registry: Registry, count: int) -> list[Tool | dict[str, Any]]:
    """The desk's tools and as many others, in random order."""
    every: list[Tool | dict[str, Any]] = list(registry)
    for line in STRANGERS.read_text("utf-8").splitlines()[: count - len(every)]:
        function = json.loads(line)
        properties = {name: {"type": "string"} for name in function["parameters"]}
        function["parameters"] = {"type": "object", "properties": properties, "required": list(properties)}
        every.append({"type": "function", "function": function})
    random.Random(count).shuffle(every)
    return every


def toolset(offered: Sequence[Tool | dict[str, Any]]) -> Toolset:
    schemas = tuple(tool.schema if isinstance(tool, Tool) else tool for tool in offered)
    return Toolset(schemas, tuple((tool.name, tool) for tool in offered if isinstance(tool, Tool)))


def found(cases: list[Case], offered: Sequence[Tool | dict[str, Any]], limit: int) -> float:
    """Share of the requests that need a tool for which it is shown."""
    need, tools = [case for case in cases if case.tool], toolset(offered)
    shown = [shortlist(tools, case.text, limit).schemas for case in need]
    return sum(
        any(schema["function"]["name"] == case.tool for schema in schemas)
        for case, schemas in zip(need, shown, strict=True)
    ) / len(need)


async def called(
    engine: Engine, registry: Registry, cases: list[Case], offered: list[Tool | dict[str, Any]], limit: int
) -> float:
    agent = Agent(single(engine), registry, max_tools=limit, max_tokens=96, max_rounds=1)
    tools = [tool.name if isinstance(tool, Tool) else tool for tool in offered]
    replies = await asyncio.gather(
        *(agent.run(Job(Request(query=case.text, tools=tools), str(i))) for i, case in enumerate(cases))
    )
    named = [reply.intent.tools[0] if reply.intent and reply.intent.tools else None for reply in replies]
    return sum(name == case.tool for name, case in zip(named, cases, strict=True)) / len(cases)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", type=Path, help="engine folder; default: the bundled model")
    parser.add_argument("--found-only", action="store_true", help="do not ask the model")
    parser.add_argument("--max-tools", type=int, default=16)
    parser.add_argument(
        "--held-out", action="store_true", help="on phrasings set aside from training instead"
    )
    options = parser.parse_args()
    folder = options.engine or (bundled_engine() if CHECKPOINT.is_dir() else None)
    engine = Engine.load(folder, slots=16) if folder and not options.found_only else None
    if engine:
        engine.start()
    with tempfile.TemporaryDirectory() as work:
        registry = desk(Path(work))
        for count in (8, 30, 100):
            offered = offer(registry, count)
            bare = [replace(tool, keywords=()) if isinstance(tool, Tool) else tool for tool in offered]
            for language in ("en", "zh"):
                cases = held_out(language) if options.held_out else hand_written(language)
                began = time.perf_counter()
                share = found(cases, offered, options.max_tools)
                each = (time.perf_counter() - began) / len(cases) * 1e6
                line = f"{count:4} tools, {language}: found {share:.1%}, without keywords "
                line += f"{found(cases, bare, options.max_tools):.1%}"
                if engine:
                    share = asyncio.run(called(engine, registry, cases, offered, options.max_tools))
                    line += f", called {share:.1%}"
                print(f"{line} ({each:.0f} µs of choosing a request)", flush=True)
    if engine:
        engine.close()


if __name__ == "__main__":
    main()
