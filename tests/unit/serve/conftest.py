"""Engines to try things on: a fake one, the golden checkpoints, and a tokenizer that fits their 256 ids."""

import pytest

from engines.manifest import Manifest
from engines.serve.engine import Engine
from engines.serve.runtime.ort import OrtRuntime
from tests.unit.serve.fake_runtime import FakeRuntime


@pytest.fixture
def open_ort(folders):
    """open_ort(name, slots, capacity) → OrtRuntime of a golden checkpoint."""

    def open_(name="glm", slots=8, capacity=128, **options):
        folder = folders / name
        return OrtRuntime.open(folder, Manifest.load(folder), slots=slots, capacity=capacity, **options)

    return open_


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
