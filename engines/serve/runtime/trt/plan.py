"""A TensorRT plan on the device: loaded once, one execution context per profile."""

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.errors import EngineFolderError, GpuFailed
from engines.manifest import Plan
from engines.serve.runtime.trt.compatibility import profile_index
from engines.serve.runtime.trt.device import Device
from engines.serve.runtime.trt.layout import aligned


@dataclass(frozen=True, slots=True)
class LoadedPlan:
    """logger: the engine needs it alive. own_graphs: this TensorRT captures steps by itself."""

    trt: Any
    plan: Plan
    engine: Any
    logger: Any
    own_graphs: bool

    @classmethod
    def load(cls, trt: Any, path: Path, plan: Plan) -> "LoadedPlan":
        """Deserialize from the mapped file: no copy of the weights in this process's own memory.

        Raises EngineFolderError with TensorRT's own words.
        """
        logger = make_logger(trt)
        runtime = trt.Runtime(logger)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            engine = runtime.deserialize_cuda_engine(mapped)
        if engine is None:
            raise EngineFolderError(f"{path} cannot be loaded: {logger.last or 'no reason given'}")
        return cls(trt, plan, engine, logger, hasattr(trt, "CudaGraphStrategy"))

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs that are not caches."""
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        is_input = self.trt.TensorIOMode.INPUT
        return [
            name
            for name in names
            if self.engine.get_tensor_mode(name) == is_input and not name.startswith("past_")
        ]

    def has(self, name: str) -> bool:
        """Whether the graph has an input or output of that name."""
        return name in (self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors))

    def workspace(self) -> int:
        """Bytes that one step needs at most, whatever its profile. Steps do not overlap, so they share it."""
        sizes = [
            self.engine.get_device_memory_size_for_profile_v2(i)
            for i in range(self.engine.num_optimization_profiles)
        ]
        return aligned(max(1, *sizes))  # nothing can be allocated of no size

    def context(self, device: Device, profile: str, workspace: int, size: int, cache: Any) -> Any:
        """An execution context of one profile, in the workspace at that address. cache: see runtime_cache."""
        strategy = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if self.own_graphs:
            config = self.engine.create_runtime_config()
            config.set_execution_context_allocation_strategy(strategy)
            # Prefills differ in width, and each new one would be captured anew.
            graphs = self.trt.CudaGraphStrategy
            config.cuda_graph_strategy = (
                graphs.WHOLE_GRAPH_CAPTURE if profile == "decode" else graphs.DISABLED
            )
            # Compiled when the context is warmed up, never during a request.
            kernels = self.trt.DynamicShapesKernelSpecializationStrategy
            config.dynamic_shapes_kernel_specialization_strategy = (
                kernels.EAGER if profile == "decode" else kernels.NONE
            )
            if cache is not None:
                config.set_runtime_cache(cache)
            context = self.engine.create_execution_context(config)
        else:
            context = self.engine.create_execution_context(strategy)
        if context is None:
            raise GpuFailed(f"TensorRT cannot prepare the {profile} profile: {self.logger.last}")
        context.set_device_memory(workspace, size)
        if not context.set_optimization_profile_async(profile_index(self.plan, profile), device.stream):
            raise GpuFailed(f"TensorRT refuses the {profile} profile: {self.logger.last}")
        return context

    def runtime_cache(self, compiled: bytes) -> Any:
        """TensorRT-RTX's cache of kernels compiled for this GPU, with those of before; None for TensorRT."""
        if not self.own_graphs:
            return None
        cache = self.engine.create_runtime_config().create_runtime_cache()
        if compiled:
            cache.deserialize(compiled)
        return cache


def make_logger(trt: Any) -> Any:
    """A TensorRT logger that keeps the last error for an exception's message."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last = ""

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.last = message

    return Logger()
