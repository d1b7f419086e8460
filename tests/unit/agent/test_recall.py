"""Chats that continue: what the model is shown of earlier requests, and what it is not."""

import json

import pytest

from daemon.agent.job import Job
from daemon.agent.recall import Recall
from daemon.memory.errors import MemoryUnavailable
from daemon.memory.local import LocalStore
from daemon.memory.place import Place
from daemon.memory.settings import MemorySettings
from openautoglm import register_tool
from schemas.request import Request
from tests.unit.agent.conftest import CALL, says
from tests.unit.tools.crashing import Crash, Process, World


class Down(LocalStore):
    async def read(self, place):
        raise MemoryUnavailable

    async def update(self, place, change):
        raise MemoryUnavailable


class Dying(Process):
    """It ends when the outcome of its call has just been written."""

    def write_soon(self, notes):
        self.world.saved |= notes
        raise Crash


class Desk:
    """An agent with memory; `prompts` are what its model was shown."""

    def __init__(self, start, script=None, store=None, capacity=2048, **settings):
        self.prompts, self.failures = [], []
        self.script = script or (lambda prompt: "\nok<|user|>")
        self.store = store or LocalStore(10, 100_000, 60)
        settings = MemorySettings(**{"use": "always", **settings})
        recall = Recall(settings, self.store, self.failures.append)
        self.agent = start(self._say, recall=recall, capacity=capacity)

    def _say(self, prompt):
        if not self.prompts or self.prompts[-1] != prompt:
            self.prompts.append(prompt)
        return self.script(prompt)

    async def ask(self, offset, query=None, *, conversation="c", attempt=1, job=None, **request):
        if query is not None:
            request["query"] = query
        place = None if conversation is None else Place(conversation, "t", 0, offset, attempt)
        request = Request(**{"tools": [], **request})
        return await self.agent.run(
            Job(request, str(offset), key=f"t/0/{offset}", place=place, attempt=attempt, **(job or {}))
        )


async def test_the_next_request_goes_on_and_its_past_is_not_computed_again(start):
    desk = Desk(start)
    first = await desk.ask(1, "My name is Mei.")
    then = await desk.ask(2, "Who am I?")
    assert desk.prompts[-1] == (
        "[gMASK]<sop><|user|>\nMy name is Mei.<|assistant|>\nok<|user|>\nWho am I?<|assistant|>"
    )
    assert then.usage.cached_tokens >= first.usage.prompt_tokens + first.usage.completion_tokens - 1
    other = await desk.ask(3, "Who am I?", conversation="d")
    assert "Mei" not in desk.prompts[-1] and other.status == "ok"
    without_key = await desk.ask(4, "Who am I?", conversation=None)
    assert "Mei" not in desk.prompts[-1] and without_key.status == "ok"


async def test_a_redelivered_request_sees_the_same_and_is_remembered_once(start):
    desk = Desk(start, lambda prompt: f"\nanswer {len(desk.prompts)}<|user|>")
    await desk.ask(1, "one")
    await desk.ask(2, "two")
    await desk.ask(3, "three")
    before = desk.prompts[1]
    await desk.ask(2, "two", attempt=2)
    assert desk.prompts[-1] == before
    await desk.ask(4, "four")
    assert desk.prompts[-1].count("<|user|>\ntwo<|assistant|>\nanswer 4<|user|>\nthree") == 1
    assert "answer 2" not in desk.prompts[-1]


async def test_a_redelivery_that_fails_leaves_nothing_of_the_first(start):
    desk = Desk(start)
    await desk.ask(1, "one")
    await desk.ask(2, "two", attempt=2, job={"deadline": 0.0})
    await desk.ask(1, "one", attempt=2, job={"deadline": 0.0})
    await desk.ask(3, "three")
    assert "one" not in desk.prompts[-1] and "two" not in desk.prompts[-1]


async def test_calls_and_results_are_remembered(start):
    desk = Desk(start, says(CALL, "\nIt was shipped.<|user|>"))
    await desk.ask(1, "Where is A1001?", tools=None)
    desk.script = lambda prompt: "\nok<|user|>"
    follow_up = await desk.ask(2, "And when?", tools=None)
    assert "order_status\n" + '{"order_id": "A1001"}<|observation|>' in desk.prompts[-1]
    assert "\nIt was shipped.<|user|>\nAnd when?" in desk.prompts[-1]
    assert follow_up.usage.prompt_tokens - follow_up.usage.cached_tokens < 20


async def test_results_of_the_callers_tools_are_enough_to_go_on(start):
    weather = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    desk = Desk(start, says("weather\n{}<|observation|>"))
    asked = await desk.ask(1, "Weather?", tools=[weather])
    (call,) = asked.message.tool_calls
    desk.script = lambda prompt: "\nSunny.<|user|>"
    result = {"role": "tool", "tool_call_id": call.id, "content": "sun"}
    answer = await desk.ask(2, messages=[result], tools=[weather])
    assert answer.message.content == "Sunny."
    assert "Weather?<|assistant|>weather\n{}<|observation|>\nsun<|assistant|>" in desk.prompts[-1]
    lost = await desk.ask(1, messages=[result], tools=[weather], conversation="new")
    assert (lost.status, lost.error.code) == ("rejected", "invalid_request")
    assert "forgotten" in lost.error.message


async def test_who_brings_earlier_turns_is_complete(start):
    desk = Desk(start)
    await desk.ask(1, "one")
    await desk.ask(2, "two", history=[{"role": "user", "content": "own"}])
    assert "one" not in desk.prompts[-1] and "own" in desk.prompts[-1]
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    await desk.ask(3, messages=[*turns, {"role": "user", "content": "three"}])
    assert "one" not in desk.prompts[-1]
    await desk.ask(4, "four", memory=False)
    assert "one" not in desk.prompts[-1]
    await desk.ask(5, messages=[{"role": "system", "content": "S"}, {"role": "user", "content": "five"}])
    assert desk.prompts[-1].startswith(
        "[gMASK]<sop><|system|>\nS<|user|>\none<|assistant|>\nok<|user|>\nfive"
    )


async def test_on_request_only_those_that_ask(start):
    desk = Desk(start, use="on-request")
    await desk.ask(1, "one", memory=True)
    await desk.ask(2, "two")
    assert "one" not in desk.prompts[-1]
    await desk.ask(3, "three", memory=True)
    assert "one" in desk.prompts[-1] and "two" not in desk.prompts[-1]


@pytest.mark.parametrize(
    ("use", "request_", "conversation", "remedy"),
    [
        ("never", {"query": "a"}, "c", "send earlier turns yourself"),
        ("always", {"query": "a", "history": [{"role": "user", "content": "b"}]}, "c", "leave them out"),
        ("on-request", {"query": "a"}, None, "needs a key"),
        ("always", {"query": "a", "task": "summarize", "tools": None}, "c", "leave `memory` out"),
    ],
)
async def test_what_cannot_be_remembered_is_refused(start, use, request_, conversation, remedy):
    reply = await Desk(start, use=use).ask(1, memory=True, conversation=conversation, **request_)
    assert (reply.status, reply.error.code) == ("rejected", "invalid_request")
    assert remedy in reply.error.message


async def test_the_past_is_bounded(start):
    desk = Desk(start, turns=2, tokens=60)
    for number in range(1, 5):
        await desk.ask(number, f"number {number}")
    assert "number 1" not in desk.prompts[-1] and "number 2" in desk.prompts[-1]
    await desk.ask(5, "long " * 80)
    await desk.ask(6, "six")
    assert desk.prompts[-1] == "[gMASK]<sop><|user|>\nsix<|assistant|>"


async def test_a_past_that_leaves_no_room_is_left_out(start):
    desk = Desk(start, capacity=128, tokens=1000)
    await desk.ask(1, "word " * 30, max_tokens=8)
    reply = await desk.ask(2, "other " * 20, max_tokens=8)
    assert reply.status == "ok" and "word" not in desk.prompts[-1]
    late = await desk.ask(3, "far too long " * 100)
    assert (late.status, late.error.code) == ("rejected", "prompt_too_long")


async def test_a_memory_that_does_not_answer_postpones_or_fails_what_needs_it(start):
    desk = Desk(start, store=Down(1, 1, 1))
    reply = await desk.ask(1, "one")
    assert (reply.status, reply.error.code, reply.error.retryable) == ("error", "memory_unavailable", True)
    with pytest.raises(MemoryUnavailable):
        await desk.ask(1, "one", job={"last_try": False})
    assert (await desk.ask(1, "one", memory=False)).status == "ok"
    assert desk.failures == ["read", "read"]


async def test_an_answer_is_given_though_it_cannot_be_remembered(start):
    class Forgetful(LocalStore):
        update = Down.update

    desk = Desk(start, store=Forgetful(1, 1000, 1))
    assert (await desk.ask(1, "one")).status == "ok"
    assert desk.failures == ["write"]


async def test_what_something_else_wrote_is_no_past(start):
    desk = Desk(start)
    await desk.store.update(Place("c", "t", 0, 1), lambda value: b"junk")
    assert (await desk.ask(1, "one")).status == "ok"
    await desk.ask(2, "two")
    assert "one" in desk.prompts[-1]
    assert json.loads(await desk.store.read(Place("c", "t", 0, 1)))[0]["offset"] == 1


async def test_a_past_that_leaves_no_room_for_results_is_left_out_then(start, registry):
    with registry.collecting():

        @register_tool(description="List.", read_only=True)
        def items() -> str:
            return "x " * 60

    def script(prompt):
        if "list" in prompt.rpartition("<|user|>")[2]:
            return says("items\n{}<|observation|>", "\nThere they are.<|user|>")(prompt)
        return "\n" + "word " * 20 + "<|user|>"

    desk = Desk(start, script, capacity=480)
    await desk.ask(1, "tell me a story " * 4)
    for offset in (2, 3):
        reply = await desk.ask(offset, "list", tools=["items"])
        assert (reply.status, reply.message.content) == ("ok", "There they are.")
    calling = [prompt for prompt in desk.prompts if prompt.endswith("list<|assistant|>")]
    assert "story" in calling[-1] and "story" not in desk.prompts[-1]


async def test_a_past_that_leaves_hardly_any_room_for_the_answer_is_left_out(start):
    def script(prompt):
        return "\n" + "word " * 20 + "<|user|>"

    desk = Desk(start, script)
    await desk.ask(1, "tell me a story " * 4)
    needed = (await desk.ask(2, "more")).usage.prompt_tokens
    desk = Desk(start, script, capacity=needed + 3)
    await desk.ask(1, "tell me a story " * 4)
    reply = await desk.ask(2, "more")
    assert reply.finish_reason == "stop" and "story" not in desk.prompts[-1]


@pytest.mark.parametrize("crash", [False, True])
async def test_a_call_made_without_the_past_stands_after_a_crash(start, registry, crash):
    seats = []
    with registry.collecting():

        @register_tool(description="Book.", compensate=lambda arguments, result: seats.remove(result))
        def book(seat: str) -> str:
            seats.append(seat)
            return seat

    def script(prompt):
        if "Seat" in prompt.rpartition("<|user|>")[2]:
            return says('book\n{"seat": "4A"}<|observation|>', "\nBooked.<|user|>")(prompt)
        return "\n" + "word " * 70 + "<|user|>"

    world = World()
    desk = Desk(start, script, capacity=380)
    await desk.ask(1, "Story " * 4)
    if crash:
        with pytest.raises(Crash):
            await desk.ask(2, "Seat 4A", tools=["book"], job={"notes": Dying(world)})
    reply = await desk.ask(2, "Seat 4A", tools=["book"], attempt=1 + crash, job={"notes": Process(world)})
    assert (reply.status, reply.message.content, seats) == ("ok", "Booked.", ["4A"])
