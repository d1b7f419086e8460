import llguidance
import pytest

from daemon.agent.agent import Agent
from daemon.agent.job import Job
from daemon.tools.registry import Registry, register_tool
from engines.serve.engine import Engine
from engines.serve.masks import GrammarCompiler
from openautoglm import ToolContext, ToolError
from schemas.request import Request
from tests.single import single
from tests.unit.agent.scripted_runtime import ScriptedRuntime
from tests.unit.tokenizer.conftest import glm4  # noqa: F401

CALL = 'order_status\n{"order_id": "A1001"}<|observation|>'


@pytest.fixture
def registry():
    """order_status (A1001 is known), note (who called, with which key), slow, and broken."""
    with Registry().collecting() as registered:

        @register_tool(description="Tell the status of an order.", read_only=True)
        def order_status(order_id: str) -> dict[str, str]:
            if order_id != "A1001":
                raise ToolError(f"order {order_id} not found")
            return {"order_id": order_id, "status": "shipped"}

        @register_tool(description="Note something.")
        async def note(text: str, context: ToolContext) -> list[str]:
            return [text, context.user_id or "", context.idempotency_key]

        @register_tool(description="Take long.", read_only=True)
        async def slow() -> None:
            import asyncio

            await asyncio.sleep(10)

        @register_tool(description="Fail.")
        def broken() -> None:
            raise RuntimeError("boom")

    return registered


@pytest.fixture
def start(glm4, registry):  # noqa: F811
    """start(script, **options) → an Agent on a running engine whose model follows the script."""
    engines = []

    def start_(script, slots=4, capacity=2048, step_seconds=0.0, **options):
        runtime = ScriptedRuntime(glm4, script, slots, capacity)
        runtime.step_seconds = step_seconds
        ends = [glm4.token_id(end) for end in ("<|endoftext|>", "<|user|>", "<|observation|>")]
        vocabulary = llguidance.LLTokenizer(glm4.definition, eos_token=ends)
        engine = Engine(runtime, eos_token_ids=ends, compiler=GrammarCompiler(vocabulary, frozenset(ends)))
        engine.start()
        engines.append(engine)
        return Agent(single(engine, "scripted", glm4), registry, **options)

    yield start_
    for engine in engines:
        engine.close()


@pytest.fixture
def ask(start):
    """ask(script, **request) → the reply, from an agent of its own."""

    async def ask_(script, *, job=None, agent=None, **request):
        request = {"query": "hi"} | request if "messages" not in request else request
        agent = agent or start(script)
        return await agent.run(Job(Request(**request), "r1", key="topic/0/7", **(job or {})))

    return ask_


def engine_of(agent):
    """The engine of an agent that `start` started."""
    return agent._models.pool.replicas("scripted")[0].engine


def says(*turns):
    """A script: the n-th turn of the conversation's last user message is turns[n]."""

    def script(prompt):
        return turns[prompt.rpartition("<|user|>")[2].count("<|assistant|>") - 1]

    return script
