"""The contract's own tests (tests/unit/serve/test_runtime.py), all of them, on a real GPU in bfloat16."""

import pytest

import tests.unit.serve.test_runtime as contract
from engines.build import build
from engines.build.plan import PlanOptions
from engines.manifest import Manifest
from engines.serve.runtime.trt.runtime import TrtRuntime
from tests.gpu.conftest import DEVICE, GOLDEN
from tests.gpu.measures import TOLERANCE
from tests.unit import conftest
from tests.unit.serve.test_runtime import CASES, Reading

golden = conftest.golden

# Every test that opens a runtime; their fixtures below are this file's.
globals().update(
    {
        name: test
        for name, test in vars(contract).items()
        if name.startswith("test_") and "open_runtime" in test.__code__.co_varnames
    }
)


@pytest.fixture(scope="module")
def engines(flavour, tmp_path_factory):
    """engines(name, slots, capacity) → an engine folder, built when it is first asked for."""
    root, built = tmp_path_factory.mktemp(f"contract-{flavour}"), {}

    def engine(name, slots, capacity):
        key = f"{name}-{slots}-{capacity}"
        if key not in built:
            plan = PlanOptions(slots, capacity + 1, 32, flavour=flavour)
            built[key] = build(GOLDEN / name, root / key, plan=plan)
        return root / key

    return engine


@pytest.fixture
def open_runtime(engines):
    """open(name, slots, capacity) → a runtime under test."""
    opened = []

    def open_(name, slots=8, capacity=127):
        folder = engines(name, slots, capacity)
        opened.append(TrtRuntime.open(folder, Manifest.load(folder), device=DEVICE))
        return Reading(opened[-1], TOLERANCE)

    yield open_
    for runtime in opened:
        runtime.close()


@pytest.fixture(params=CASES)
def case(request, golden):
    return request.param, golden[request.param]
