"""The runtime that an engine folder was built for, with as many slots as are asked for or fit."""

from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from engines.errors import EngineTooLarge
from engines.manifest import Manifest, Plan
from engines.serve.memory import CachePlan, check_capacity, rows_of
from engines.serve.runtime.contract import Runtime
from engines.serve.runtime.ort import OrtRuntime
from engines.serve.runtime.trt.compatibility import tensorrt_of
from engines.serve.runtime.trt.runtime import TrtRuntime

_SMALL = 8_000_000  # parameters; below, handing a product to other threads costs more than they save


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the operator asks for; None chooses. rows: that may run at once; capacity: tokens per row.

    memory: the share of the device's memory that this engine may take.

    device: of the GPU, an index or UUID; threads, spinning: of the CPU, where small models get one thread.
    """

    rows: int | None = None
    capacity: int | None = None
    memory: float | None = None
    device: str | int | None = None
    threads: int | None = None
    spinning: bool = False


def open_runtime(folder: Path, manifest: Manifest, wanted: Wanted) -> tuple[Runtime, int]:
    """The runtime and its rows. There is no way back to the CPU from a plan that does not run here.

    Raises EngineFolderError, EngineTooLarge, DeviceNotFound, KernelError, GpuFailed.
    """
    check(manifest, wanted)
    if _plan(manifest):
        gpu = TrtRuntime.open(folder, manifest, rows=wanted.rows, device=wanted.device, share=wanted.memory)
        return gpu, rows_of(gpu.slots) if wanted.rows is None else wanted.rows
    plan = _fit(manifest, wanted)
    cpu = OrtRuntime.open(
        folder,
        manifest,
        slots=plan.slots,
        capacity=plan.capacity,
        threads=wanted.threads or (1 if manifest.sizes.parameters < _SMALL else None),
        spinning=wanted.spinning,
    )
    return cpu, plan.rows


def check(manifest: Manifest, wanted: Wanted) -> None:
    """What can be told before anything is loaded or a GPU is looked at: whether the engine is for so many
    tokens, and for the TensorRT that is installed here.

    Raises EngineTooLarge, EngineFolderError.
    """
    plan = _plan(manifest)
    if plan is None:
        check_capacity(manifest, wanted.capacity)
        return
    most = plan.capacity - 1
    if wanted.capacity is not None and wanted.capacity != most:
        raise EngineTooLarge(f"the plan was built for a capacity of {most}, not {wanted.capacity}")
    tensorrt_of(manifest)


def _plan(manifest: Manifest) -> Plan | None:
    return None if manifest.runtime == "onnxruntime" else manifest.plan


def _fit(manifest: Manifest, wanted: Wanted) -> CachePlan:
    machine, share = psutil.virtual_memory(), wanted.memory
    if share is None:
        return CachePlan.fit(manifest, machine.available, wanted.rows, wanted.capacity)
    graph = manifest.graphs[manifest.dialect]
    weights = sum(entry.bytes for name, entry in manifest.files.items() if name.startswith(graph))
    own = max(0, min(machine.available, int(share * machine.total)) - weights)
    return CachePlan.fit(manifest, own, wanted.rows, wanted.capacity, own=True)
