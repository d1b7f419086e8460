"""Routing with 8, 30 and 100 tools: the desk's eight among strangers, on the hand-written requests.

Found: the right tool is among those shown to the model. Routed: the model calls it (greetings
and requests out of scope: none).

usage: python -m tests.bench.bench_routing [--engine FOLDER] [--found-only] [--max-tools N]
"""

import argparse
import asyncio
import json
import random
from pathlib import Path
from typing import Any

from daemon.agent.agent import Agent
from daemon.agent.job import Job
from daemon.agent.retrieval import shortlist
from daemon.agent.toolset import Toolset
from daemon.bundled import CHECKPOINT, bundled_engine
from daemon.tools.registry import Registry
from engines.demo.cases import Case, hand_written
from engines.demo.dialogue import TOOLS
from engines.serve.engine import Engine
from schemas.request import Request
from tests.single import single

STRANGERS = Path(__file__).parents[1] / "data" / "bfcl" / "functions.jsonl"


def tools(count: int) -> list[dict[str, Any]]:
    """The desk's tools and as many others, in random order."""
    every = list(TOOLS)
    for line in STRANGERS.read_text("utf-8").splitlines()[: count - len(every)]:
        function = json.loads(line)
        properties = {name: {"type": "string"} for name in function["parameters"]}
        function["parameters"] = {"type": "object", "properties": properties, "required": list(properties)}
        every.append({"type": "function", "function": function})
    random.Random(count).shuffle(every)
    return every


def found(cases: list[Case], offered: list[dict[str, Any]], limit: int) -> float:
    """Share of the requests that need a tool for which it is shown."""
    need, toolset = [case for case in cases if case.tool], Toolset(tuple(offered))
    shown = [shortlist(toolset, case.text, limit).schemas for case in need]
    return sum(
        any(schema["function"]["name"] == case.tool for schema in schemas)
        for case, schemas in zip(need, shown, strict=True)
    ) / len(need)


async def routed(engine: Engine, cases: list[Case], offered: list[dict[str, Any]], limit: int) -> float:
    agent = Agent(single(engine), Registry(), max_tools=limit, max_tokens=96)
    replies = await asyncio.gather(
        *(agent.run(Job(Request(query=case.text, tools=offered), str(i))) for i, case in enumerate(cases))
    )
    named = [reply.intent.tools[0] if reply.intent and reply.intent.tools else None for reply in replies]
    return sum(name == case.tool for name, case in zip(named, cases, strict=True)) / len(cases)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", type=Path, help="engine folder; default: the bundled model")
    parser.add_argument("--found-only", action="store_true", help="do not ask the model")
    parser.add_argument("--max-tools", type=int, default=16)
    options = parser.parse_args()
    folder = options.engine or (bundled_engine() if CHECKPOINT.is_dir() else None)
    engine = Engine.load(folder, slots=16) if folder and not options.found_only else None
    if engine:
        engine.start()
    for count in (8, 30, 100):
        offered = tools(count)
        for language in ("en", "zh"):
            cases = hand_written(language)
            line = f"{count:4} tools, {language}: found {found(cases, offered, options.max_tools):.1%}"
            if engine:
                line += f", routed {asyncio.run(routed(engine, cases, offered, options.max_tools)):.1%}"
            print(line, flush=True)
    if engine:
        engine.close()


if __name__ == "__main__":
    main()
