"""Real users' tool schemas and a model that knows nothing: every call fits, or the schema is refused."""

import asyncio

import pytest

from daemon.agent.agent import Agent
from daemon.agent.job import Job
from daemon.tools.registry import Registry
from engines.serve.engine import Engine
from schemas.request import Request
from tests.bench.bench_bfcl import random_engine
from tests.bfcl import cases, problem
from tests.single import single

CONTRADICTORY = "live_simple_71-35-0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return random_engine(tmp_path_factory.mktemp("bfcl"))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_every_call_fits_its_schema(folder, temperature):
    engine = Engine.load(folder, slots=12, capacity=2048)
    engine.start()
    agent = Agent(single(engine), Registry(), max_tokens=256)
    requests = cases()
    sampling = {"temperature": temperature, "seed": 3}
    try:
        replies = await asyncio.gather(
            *(agent.run(Job(Request(**request, sampling=sampling), request["id"])) for request in requests)
        )
    finally:
        engine.close()
    for request, reply in zip(requests, replies, strict=True):
        if request["id"] == CONTRADICTORY:
            assert reply.error.code == "unsupported_schema"
            assert reply.error.message.endswith("required property 'metrics' is unsatisfiable")
        else:
            assert problem(request, reply) is None, request["id"]
            assert reply.finish_reason in ("tool_calls", "length")
