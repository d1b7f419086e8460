"""The GPU runtime on the emulated device and TensorRT: everything but CUDA and the plan is the product's."""

import types
from pathlib import Path

from engines.manifest import FileEntry, Manifest, Plan, Profile
from engines.serve.runtime.trt.runtime import TrtRuntime
from tests.unit.gpu import emulated_tensorrt
from tests.unit.gpu.emulated_device import EmulatedDevice


def emulated_tensorrt_on(device, flavour="tensorrt"):
    """The emulated module, its contexts on `device`, under the flavour's name."""
    module = types.SimpleNamespace(**vars(emulated_tensorrt))
    module.__name__ = flavour
    if flavour == "tensorrt":
        for name in emulated_tensorrt.RTX_ONLY:
            delattr(module, name)
    module.Runtime = type("Runtime", (emulated_tensorrt.Runtime,), {"device": device})
    return module


def plan_of(capacity, slots, chunk=16, flavour="tensorrt"):
    one = (1, 1, 1)
    return Plan(
        file="model.plan",
        flavour=flavour,
        version=emulated_tensorrt.__version__,
        compute_capabilities=("8.9",),
        capacity=capacity,
        profiles=(
            Profile(name="decode", batch=(1, slots, slots), tokens=one, logit_positions=one),
            Profile(name="prefill", batch=(1, 1, slots), tokens=(1, chunk, chunk), logit_positions=one),
        ),
    )


def open_emulated_runtime(
    library,
    engine: Path,
    work: Path,
    *,
    slots,
    capacity,
    ask=None,
    plan=None,
    total=1 << 30,
    device=None,
    module=None,
    flavour="tensorrt",
    **options,
):
    """A TrtRuntime over the standard graph of an engine folder. ask: rows other than the plan's; plan: bytes
    of the plan file other than the graph; total: bytes of the device."""
    path, manifest = work / "model.plan", Manifest.load(engine)
    path.write_bytes(plan or b"graph:" + str(engine / manifest.graphs["standard"]).encode())
    manifest = manifest.model_copy(
        update={
            "plan": plan_of(capacity + 1, slots, flavour=flavour),
            "files": {"model.plan": FileEntry.of(path)},
            "runtime": flavour,
        }
    )
    device = device or EmulatedDevice(library, total)
    module = module or emulated_tensorrt_on(device, flavour)
    return TrtRuntime.on(device, module, work, manifest, rows=ask or slots, **options)
