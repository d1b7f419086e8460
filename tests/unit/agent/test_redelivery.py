import json

import pytest

from daemon.agent.job import Job
from openautoglm import register_tool
from schemas.request import Request
from tests.unit.agent.conftest import says
from tests.unit.tools.crashing import Crash, Process, World

BOOK = 'book\n{"seat": "4A"}<|observation|>'


@pytest.fixture
def booked(registry):
    """The seats that `book` booked and has not cancelled since."""
    seats: list[str] = []
    with registry.collecting():

        @register_tool(description="Book a seat.", compensate=lambda arguments, result: seats.remove(result))
        def book(seat: str) -> str:
            seats.append(seat)
            return seat

    return seats


def job(notes, **more):
    return Job(Request(query="hi"), "r1", key="topic/0/7", notes=notes, **more)


async def test_a_redelivered_request_goes_on_where_it_acted(start, booked):
    world, asked = World(), set()

    def script(prompt):
        asked.add(prompt)
        return says(BOOK, "\nBooked.<|user|>")(prompt)

    dying = Process(world, crash_at=2, flushed=True)

    class Dies:
        """Dies when the model is asked after the booking."""

        saved, limit_bytes, write = dying.saved, dying.limit_bytes, dying.write

        def write_soon(self, notes):
            world.saved |= notes
            raise Crash

    with pytest.raises(Crash):
        await start(script).run(job(Dies()))
    assert booked == ["4A"] and len(asked) == 1
    reply = await start(script).run(job(Process(world), attempt=2))
    assert (reply.status, reply.message.content) == ("ok", "Booked.")
    assert booked == ["4A"] and len(asked) == 2
    assert [(tool.name, tool.outcome, tool.reused) for tool in reply.tools] == [("book", "ok", True)]
    assert reply.intent.tools == ["book"]


async def test_a_failed_request_is_undone_and_its_redelivery_says_the_same(start, booked):
    world = World()
    process = Process(world)
    agent = start(lambda prompt: BOOK, max_rounds=2)
    reply = await agent.run(job(process))
    assert (reply.status, reply.error.code, booked) == ("error", "too_many_rounds", [])
    assert [tool.outcome for tool in reply.tools] == ["compensated"] * 2
    await process.write({})
    again = await start(says("\nHello<|user|>")).run(job(Process(world), attempt=2))
    assert (again.status, again.error, booked) == (reply.status, reply.error, [])
    assert json.loads(again.model_dump_json())["tools"][0]["outcome"] == "compensated"
