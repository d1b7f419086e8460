"""TensorRT's runtime API over ONNX Runtime: the part that the GPU runtime uses, on the addresses it is given.

Names and arguments are TensorRT's; test_tensorrt_api.py holds them against the real module.
"""

from enum import Enum, IntEnum
from pathlib import Path

import numpy as np
import onnxruntime

__version__ = "0.0"
_TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


class TensorIOMode(Enum):
    INPUT = 1
    OUTPUT = 2


class ExecutionContextAllocationStrategy(Enum):
    USER_MANAGED = 2


class ILogger:
    class Severity(IntEnum):
        INTERNAL_ERROR = 0
        ERROR = 1


class Runtime:
    """`plan` files are ONNX graphs here. device: the emulated one whose stream the contexts use."""

    device = None

    def __init__(self, logger):
        self.logger = logger

    def deserialize_cuda_engine(self, plan):
        graph = bytes(plan)
        if not graph.startswith(b"graph:"):
            self.logger.log(ILogger.Severity.ERROR, "not a plan")
            return None
        return Engine(Path(graph.removeprefix(b"graph:").decode()), self.device)


class Engine:
    num_optimization_profiles = 2

    def __init__(self, graph, device):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self.device = device
        self.inputs = {value.name: _TYPES[value.type] for value in self.session.get_inputs()}
        self.outputs = {value.name: _TYPES[value.type] for value in self.session.get_outputs()}
        self.num_io_tensors = len(self.inputs) + len(self.outputs)

    def get_tensor_name(self, index):
        return [*self.inputs, *self.outputs][index]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_device_memory_size_for_profile_v2(self, profile_index):
        return 1000

    def create_execution_context(self, strategy):
        """strategy: in TensorRT-RTX, a configuration that has it."""
        strategy = getattr(strategy, "allocation", strategy)
        assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED
        return Context(self)

    def create_runtime_config(self):
        return RuntimeConfig()


class RuntimeConfig:
    """Of TensorRT-RTX only."""

    allocation = cuda_graph_strategy = dynamic_shapes_kernel_specialization_strategy = cache = None

    def set_execution_context_allocation_strategy(self, strategy):
        self.allocation = strategy

    def create_runtime_cache(self):
        return RuntimeCache()

    def set_runtime_cache(self, cache):
        self.cache = cache
        cache.kernels += b"kernel"


class RuntimeCache:
    kernels = b""

    def serialize(self):
        return memoryview(self.kernels)

    def deserialize(self, kernels):
        self.kernels = kernels
        return True


class CudaGraphStrategy(Enum):
    DISABLED = 0
    WHOLE_GRAPH_CAPTURE = 1


class DynamicShapesKernelSpecializationStrategy(Enum):
    EAGER = 0
    NONE = 1


RTX_ONLY = ("CudaGraphStrategy", "DynamicShapesKernelSpecializationStrategy")


class Context:
    def __init__(self, engine):
        self._engine, self._shapes, self._addresses, self._memory = engine, {}, {}, None
        self.fail = False

    def set_device_memory(self, memory, size):
        assert memory % 256 == 0
        self._memory = size

    def set_optimization_profile_async(self, profile_index, stream_handle):
        return stream_handle == self._engine.device.stream

    def set_input_shape(self, name, shape):
        self._shapes[name] = shape
        return name in self._engine.inputs

    def set_tensor_address(self, name, memory):
        assert memory % 256 == 0, f"{name} is not aligned"
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle):
        assert self._memory is not None and stream_handle == self._engine.device.stream
        if self.fail:
            return False
        shapes, addresses = dict(self._shapes), dict(self._addresses)
        self._engine.device.enqueue(lambda: self._run(shapes, addresses))
        return True

    def _run(self, shapes, addresses):
        engine, binding = self._engine, self._engine.session.io_binding()
        for name, kind in engine.inputs.items():
            binding.bind_input(name, "cpu", 0, kind, shapes[name], addresses[name])
        rows = shapes["input_ids"][0]
        widths = {value.name: value.shape[-1] for value in engine.session.get_outputs()}
        for name, kind in engine.outputs.items():
            past = name.replace("present_", "past_")
            shape = shapes.get(past, (rows, 1, widths[name]))
            binding.bind_output(name, "cpu", 0, kind, shape, addresses[name])
        engine.session.run_with_iobinding(binding)
