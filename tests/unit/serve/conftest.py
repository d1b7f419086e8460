"""Engines to try things on: a fake one, the golden checkpoints, and a tokenizer that fits their 256 ids."""

import pytest

from engines.serve.engine import Engine
from tests.unit.serve.fake_runtime import FakeRuntime


@pytest.fixture
def start():
    """start(runtime, **options) → a running Engine, closed and checked when the test ends."""
    engines = []

    def start_(runtime=None, **options):
        engine = Engine(runtime or FakeRuntime(), **options)
        engines.append(engine)
        engine.start()
        return engine

    yield start_
    for engine in engines:
        engine.close()
        engine._stepper.scheduler.check()
