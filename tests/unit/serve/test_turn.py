"""Engines go first: who asks waits until the stretch between two runtime calls is over, but not for long."""

import asyncio
import threading
import time

import pytest

from daemon import loop
from daemon.loop import YieldingSelector
from engines.serve.prompt import Prompt, Sampling
from engines.serve.turn import TURN, Turn
from tests.unit.serve.fake_runtime import FakeRuntime


def timed(run):
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


class Watching(FakeRuntime):
    """Notes whether the turn is free while it computes, and while it is asked for tokens."""

    def __init__(self):
        super().__init__()
        self.computing, self.drawing = [], []

    def prefill(self, *arguments):
        self.computing.append(TURN.wait(0))
        super().prefill(*arguments)

    def decode(self, *arguments):
        self.computing.append(TURN.wait(0))
        super().decode(*arguments)

    def sample(self, *arguments):
        self.drawing.append(TURN.wait(0))
        return super().sample(*arguments)


def test_it_is_free_when_all_have_let_it_go():
    turn = Turn()
    with turn:
        with turn:
            assert not turn.wait(0)
            with turn.elsewhere():
                assert not turn.wait(0)
        with turn.elsewhere():
            assert turn.wait(0)
        assert not turn.wait(0.01)
    assert turn.wait(0)


def test_an_error_lets_it_go():
    turn = Turn()
    with pytest.raises(ValueError, match="no"), turn, turn.elsewhere():
        raise ValueError("no")
    assert turn.wait(0)


def test_an_engine_holds_it_between_the_calls_that_compute(start):
    runtime = Watching()
    engine = start(runtime)
    engine.submit(Prompt([1, 2, 3], max_tokens=5, sampling=Sampling(temperature=0))).wait(10)
    assert runtime.computing == [True] * 5
    assert runtime.drawing == [False] * 5


def test_the_event_loop_waits_for_it():
    selector, returned = YieldingSelector(patience=30), threading.Event()

    def select():
        selector.select(0)
        returned.set()

    thread = threading.Thread(target=select)
    with TURN:
        thread.start()
        assert not returned.wait(0.1)
    assert returned.wait(10)
    thread.join()
    selector.close()


def test_the_event_loop_does_not_wait_all_the_time():
    selector = YieldingSelector(patience=1.0)
    with TURN:
        first, second = (timed(lambda: selector.select(0)) for _ in range(2))
    assert first >= 1.0 > second  # what comes next has three times as long
    selector.close()


def test_the_event_loop_goes_on_whoever_holds_it():
    async def main():
        with TURN:  # by the loop's own thread: nobody lets it go meanwhile
            for _ in range(3):
                await asyncio.sleep(0)
        return "done"

    assert loop.run(main()) == "done"
