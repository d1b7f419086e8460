"""The caller's end: waiting, streaming late, two event loops."""

import asyncio
import threading

import pytest

from engines.serve.generation import Generation, notify
from engines.serve.prompt import Completion


def completion(tokens):
    return Completion(tokens, "length", None, 1, 0, len(tokens), 0, 0, 0, 0, 0)


def test_waiting_too_long_says_so():
    with pytest.raises(TimeoutError, match=r"0\.01"):
        Generation(lambda _: None).wait(0.01)


def test_cancel_asks_once():
    asked = []
    generation = Generation(asked.append)
    generation.cancel()
    generation.cancel()
    assert asked == [generation]


async def test_a_late_reader_gets_everything():
    generation, known = Generation(lambda _: None), [7, 8]
    generation.follow(known)
    known += [1, 2, 3]
    generation.finish(completion([1, 2, 3]))
    assert [chunk.token_ids async for chunk in generation] == [[1, 2, 3]]


async def test_tokens_arrive_from_another_thread():
    generation, known = Generation(lambda _: None), []
    generation.follow(known)

    def produce():
        for token in range(50):
            known.append(token)
            notify([generation])
        generation.finish(completion(known))
        notify([generation])

    reading = asyncio.create_task(asyncio.wait_for(collect(generation), 10))
    await asyncio.sleep(0)
    threading.Thread(target=produce).start()
    assert await reading == list(range(50))
    assert (await generation.result()).completion_tokens == 50


async def collect(generation):
    return [token async for chunk in generation for token in chunk.token_ids]


async def test_another_event_loop_is_refused():
    generation = Generation(lambda _: None, asyncio.get_running_loop())
    with pytest.raises(RuntimeError, match="event loop"):
        await asyncio.to_thread(asyncio.run, generation.result())


async def test_a_closed_event_loop_does_not_hurt_the_engine():
    generation = Generation(lambda _: None)

    async def wait_a_little():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(generation.result(), 0.01)

    await asyncio.to_thread(asyncio.run, wait_a_little())
    generation.finish(completion([]))
    notify([generation])
    assert generation.wait(0).token_ids == []
