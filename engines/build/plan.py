"""TensorRT plans: compile the standard dialect in bfloat16, on machines with or without a GPU."""

import ctypes
import importlib
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.errors import BuildError
from engines.keepsake import Keepsake
from engines.manifest import Plan, Profile

FLAVOURS = ("tensorrt", "tensorrt_rtx")
_REMEDY = "pip install tensorrt-cu13 or, for GeForce and RTX GPUs, tensorrt-rtx-cu13"

_TICKS = 100
SLOT_TOKENS = 16  # so that slots begin where TensorRT can be bound to them
_CAPABILITY = re.compile(r"[0-9]+\.[0-9]")
_CAPABILITY_ATTRIBUTES = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and MINOR of the driver API

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PlanOptions:
    """What a plan is compiled for; all sizes are fixed in it.

    slots: rows decoded together. capacity: tokens of one row's cache. chunk: prompt tokens per prefill
    step. capabilities: target compute capabilities like "8.9" (empty: this machine's GPU or, without one,
    whatever the flavour supports). flavour: which TensorRT (None: the first that imports).
    """

    slots: int = 8
    capacity: int = 4096
    chunk: int = 256
    capabilities: tuple[str, ...] = ()
    flavour: str | None = None
    timing_cache: Path | None = None

    def profiles(self) -> tuple[Profile, ...]:
        """Decoding (one token per row) and chunked prefill (few rows, many tokens)."""
        one = (1, 1, 1)
        most = min(self.chunk, self.capacity)
        return (
            Profile(name="decode", batch=(1, self.slots, self.slots), tokens=one, logit_positions=one),
            Profile(name="prefill", batch=(1, 1, self.slots), tokens=(1, most, most), logit_positions=one),
        )


def load_flavour(wanted: str | None = None) -> Any:
    """The TensorRT module: `wanted`, or the first installed. Raises BuildError with what to install."""
    for name in FLAVOURS if wanted is None else (wanted,):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise BuildError(f"{wanted or 'TensorRT'} is not installed: {_REMEDY}")


def compile_plan(graph: Path, out: Path, options: PlanOptions, progress: Progress) -> Plan:
    """Compile a bfloat16 standard graph of `options.capacity` into the plan file `out`.

    `options` have passed check_options. Raises BuildError with TensorRT's own words when it refuses, and what
    `progress` raises. It is called from another thread.
    """
    watch = _Watch(progress)
    # TensorRT calls Python while it works, and its bindings print what is raised there and go on. In a thread
    # that waits for nothing else, Ctrl-C is raised as usual.
    with ThreadPoolExecutor(1, "tensorrt") as pool:
        try:
            return pool.submit(_compile, graph, out, options, watch).result()
        except BaseException as error:
            watch.end(error)
            raise


@dataclass
class _Watch:
    """Tells how far a compilation is, and ends it with the first error that it hears of."""

    progress: Progress
    error: BaseException | None = None

    def say(self, ticks: int) -> None:
        try:
            self.progress("TensorRT plan", ticks, _TICKS)
        except BaseException as error:
            self.end(error)

    def end(self, error: BaseException) -> None:
        self.error = self.error or error


def _compile(graph: Path, out: Path, options: PlanOptions, watch: _Watch) -> Plan:
    trt = load_flavour(options.flavour)
    logger = _logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        raise BuildError(f"TensorRT cannot read the graph: {parser.get_error(0).desc()}")
    config = builder.create_builder_config()
    config.progress_monitor = _monitor(trt, watch)
    if options.capabilities:
        config.num_compute_capabilities = len(options.capabilities)
    for index, capability in enumerate(options.capabilities):
        config.set_compute_capability(_architecture(trt, capability), index)
    for profile in options.profiles():
        config.add_optimization_profile(_shapes(builder, network, profile))
    # TensorRT-RTX times nothing while it builds (it tunes on the target, into the machine's runtime cache).
    timings = None
    if options.timing_cache and trt.__name__ == "tensorrt":
        timings = Keepsake(options.timing_cache, "timings")
    if timings:
        cache = config.create_timing_cache(timings.read())
        config.set_timing_cache(cache, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if watch.error:
        raise watch.error
    if plan is None:
        raise BuildError(f"TensorRT cannot compile the graph: {logger.last or 'no reason given'}")
    with out.open("wb") as file:
        file.write(plan)
    if timings:
        timings.keep(config.get_timing_cache().serialize())
    return Plan(
        file=out.name,
        flavour=trt.__name__,
        version=trt.__version__,
        compute_capabilities=targets(options),
        capacity=options.capacity,
        profiles=options.profiles(),
    )


def network_flags(trt: Any) -> int:
    """Types as the graph has them; where there is no flag for that, nothing else is possible any more."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def targets(options: PlanOptions) -> tuple[str, ...]:
    """Compute capabilities that a plan is for; empty: whatever the flavour supports. Raises BuildError."""
    return options.capabilities or own_capability(load_flavour(options.flavour))


def own_capability(trt: Any) -> tuple[str, ...]:
    """What a plan without targets is compiled for: by TensorRT the GPU it finds, by TensorRT-RTX any."""
    if trt.__name__ != "tensorrt":
        return ()
    parts = [ctypes.c_int(), ctypes.c_int()]
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
        failed = cuda.cuInit(0)
        for part, attribute in zip(parts, _CAPABILITY_ATTRIBUTES, strict=True):
            failed = failed or cuda.cuDeviceGetAttribute(ctypes.byref(part), attribute, 0)
    except OSError as error:
        raise BuildError(
            f"the NVIDIA driver is not installed ({error}); install it, "
            f"since {trt.__name__} compiles for this machine's GPU, or build where the GPU is"
        ) from error
    if failed:
        raise BuildError(f"the NVIDIA driver does not tell the GPU's compute capability: error {failed}")
    return (".".join(str(part.value) for part in parts),)


def check_options(options: PlanOptions, context: int) -> None:
    """Raise BuildError for what a plan of a model with this context cannot be compiled for."""
    if min(options.slots, options.capacity, options.chunk) < 1:
        raise BuildError("slots, capacity and chunk of a plan must be at least 1")
    if options.capacity % SLOT_TOKENS:
        raise BuildError(f"capacity {options.capacity} of a plan is not a multiple of {SLOT_TOKENS}")
    if options.capacity > context:
        raise BuildError(f"capacity {options.capacity} is more than the model's context {context}")
    trt = load_flavour(options.flavour)
    if not options.capabilities:
        return
    if not hasattr(trt.IBuilderConfig, "num_compute_capabilities"):
        raise BuildError(
            f"{trt.__name__} compiles for the GPU of this machine only; leave the capabilities out"
        )
    for capability in options.capabilities:
        if not _CAPABILITY.fullmatch(capability):
            raise BuildError(f"compute capability {capability!r} must be written like 8.9")
        if _architecture(trt, capability) is None:
            known = sorted(name for name in vars(trt.ComputeCapability) if name.startswith("SM"))
            raise BuildError(
                f"{trt.__name__} {trt.__version__} does not compile for compute capability {capability}, "
                f"only for {', '.join(known)}"
            )


def _architecture(trt: Any, capability: str) -> Any:
    return getattr(trt.ComputeCapability, "SM" + capability.replace(".", ""), None)


def _shapes(builder: Any, network: Any, profile: Profile) -> Any:
    shapes = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        static = tuple(tensor.shape)[1:]
        if tensor.name == "logit_positions":
            sizes = list(zip(profile.batch, profile.logit_positions, strict=True))
        elif len(static) == 1:
            sizes = list(zip(profile.batch, profile.tokens, strict=True))
        else:
            sizes = [(batch, *static) for batch in profile.batch]
        shapes.set_shape(tensor.name, *sizes)
    return shapes


def _logger(trt: Any) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        """Keeps the last error for the exception's message, passes nothing on."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last = ""

        def log(self, severity: Any, message: str) -> None:
            without_gpu = "CUDA driver version is insufficient" in message
            if severity <= trt.ILogger.Severity.ERROR and not without_gpu:
                self.last = message

    return Logger()


def _monitor(trt: Any, watch: _Watch) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Folds TensorRT's nested phases into one fraction of the whole."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.done: dict[str, int] = {}
            self.steps: dict[str, int] = {}
            self.said = -1

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self.steps[name], self.done[name] = max(steps, 1), 0

        def step_complete(self, name: str, step: int) -> bool:
            if name in self.done:
                self.done[name] = step + 1
                share, fraction = 1.0, 0.0
                for phase, steps in self.steps.items():
                    share /= steps
                    fraction += share * self.done[phase]
                self.say(min(round(fraction * _TICKS), _TICKS - 1))
            return watch.error is None

        def phase_finish(self, name: str) -> None:
            self.steps.pop(name, None)
            if not self.steps:
                self.say(_TICKS)

        def say(self, ticks: int) -> None:
            if ticks > self.said:
                self.said = ticks
                watch.say(ticks)

    return Monitor()
