"""Every call of TensorRT that the GPU runtime makes exists, in the emulation and in the real module."""

import ctypes
import re
import types
from contextlib import suppress
from pathlib import Path

import pytest

from engines.build.plan import network_flags, own_capability
from engines.errors import BuildError
from engines.serve.runtime.trt import driver, plan
from engines.serve.runtime.trt.plan import make_logger
from tests.unit.gpu import emulated_tensorrt

SHARED = {
    "Runtime": ["deserialize_cuda_engine"],
    "ICudaEngine": [
        "create_execution_context",
        "get_device_memory_size_for_profile_v2",
        "get_tensor_mode",
        "get_tensor_name",
        "num_io_tensors",
        "num_optimization_profiles",
    ],
    "IExecutionContext": [
        "execute_async_v3",
        "set_device_memory",
        "set_input_shape",
        "set_optimization_profile_async",
        "set_tensor_address",
    ],
    "ExecutionContextAllocationStrategy": ["USER_MANAGED"],
    "TensorIOMode": ["INPUT"],
}
RTX_ONLY = {
    "ICudaEngine": ["create_runtime_config"],
    "IRuntimeConfig": [
        "create_runtime_cache",
        "cuda_graph_strategy",
        "dynamic_shapes_kernel_specialization_strategy",
        "set_execution_context_allocation_strategy",
        "set_runtime_cache",
    ],
    "IRuntimeCache": ["deserialize", "serialize"],
    "CudaGraphStrategy": ["WHOLE_GRAPH_CAPTURE", "DISABLED"],
    "DynamicShapesKernelSpecializationStrategy": ["EAGER", "NONE"],
}
EMULATED = {
    "ICudaEngine": "Engine",
    "IExecutionContext": "Context",
    "IRuntimeCache": "RuntimeCache",
    "IRuntimeConfig": "RuntimeConfig",
}


@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt_rtx"])
def test_the_calls_exist(flavour):
    trt = pytest.importorskip(flavour, reason=f"{flavour} is not installed")
    wanted = [SHARED] + ([RTX_ONLY] if flavour == "tensorrt_rtx" else [])
    missing = [
        f"{kind}.{name}"
        for table in wanted
        for kind, names in table.items()
        for name in names
        if not hasattr(getattr(trt, kind, None), name)
    ]
    assert not missing


@pytest.mark.parametrize(("kind", "names"), [*SHARED.items(), *RTX_ONLY.items()])
def test_the_emulation_has_the_same_calls(kind, names):
    emulated = getattr(emulated_tensorrt, EMULATED.get(kind, kind))
    given = set(dir(emulated)) | set(getattr(emulated, "__annotations__", {}))
    if kind == "ICudaEngine":
        given.add("num_io_tensors")  # of instances
    assert set(names) <= given


def test_no_other_call_is_made():
    """What the source calls on engines, contexts and configurations is in the tables above."""
    folder = Path(plan.__file__).parent
    text = (folder / "plan.py").read_text() + (folder / "steps.py").read_text()
    called = set(re.findall(r"\b(?:engine|context|config|runtime|cache|compiled)\.(\w+)", text))
    known = {name for table in (SHARED, RTX_ONLY) for names in table.values() for name in names}
    assert called - known <= {"own_graphs", "contract", "trt"}


def test_the_drivers_calls_are_all_listed():
    """Which gpu-check looks for in the real driver."""
    text = Path(driver.__file__).read_text()
    called = set(re.findall(r'_call\("(\w+)"', text)) | set(re.findall(r"_library\(\)\.(\w+)\(", text))
    assert called == set(driver.CALLS)


def test_the_logger_keeps_the_last_error():
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    logger = make_logger(trt)
    logger.log(trt.ILogger.Severity.ERROR, "no")
    logger.log(trt.ILogger.Severity.WARNING, "hm")
    assert logger.last == "no"


def test_the_real_runtime_refuses_what_is_no_plan():
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    logger = make_logger(trt)
    with suppress(TypeError, RuntimeError):  # without a driver the runtime cannot be made
        assert trt.Runtime(logger).deserialize_cuda_engine(b"nothing of the kind") is None
    assert logger.last


class Driver:
    """A CUDA driver of one GPU. code: what its calls return."""

    def __init__(self, code=0):
        self.code = code

    def cuInit(self, flags):
        return self.code

    def cuDeviceGetAttribute(self, value, attribute, device):
        value._obj.value = {75: 8, 76: 9}[attribute]
        return self.code


def test_a_plan_says_which_gpu_it_was_compiled_for(monkeypatch):
    trt, rtx = (types.SimpleNamespace(__name__=name) for name in ("tensorrt", "tensorrt_rtx"))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    assert own_capability(trt) == ("8.9",)
    assert own_capability(rtx) == ()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(100))
    with pytest.raises(BuildError, match="error 100"):
        own_capability(trt)


def test_networks_are_strongly_typed_with_a_flag_or_without():
    flags = types.SimpleNamespace(STRONGLY_TYPED=1)
    assert network_flags(types.SimpleNamespace(NetworkDefinitionCreationFlag=flags)) == 2
    assert network_flags(types.SimpleNamespace(NetworkDefinitionCreationFlag=types.SimpleNamespace())) == 0
