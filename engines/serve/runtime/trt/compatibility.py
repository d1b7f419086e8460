"""Whether a plan can run here, asked of the manifest before anything is loaded."""

import importlib
from typing import Any

from engines.errors import EngineFolderError
from engines.manifest import Manifest, Plan, Profile

_REMEDIES = {"tensorrt": "tensorrt-cu13", "tensorrt_rtx": "tensorrt-rtx-cu13"}


def tensorrt_of(manifest: Manifest) -> Any:
    """The module that built the manifest's plan. Raises EngineFolderError when it is not installed, or is of
    another version."""
    flavour = manifest.runtime
    try:
        trt = importlib.import_module(flavour)
    except ImportError as error:
        raise EngineFolderError(
            f"the plan was built with {flavour}, which is not installed; pip install {_REMEDIES[flavour]}"
        ) from error
    check_plan(manifest, flavour=trt.__name__, version=trt.__version__)
    return trt


def check_plan(manifest: Manifest, *, flavour: str, version: str, capability: str | None = None) -> Plan:
    """The manifest's plan. flavour, version: of the TensorRT that is installed; capability: the GPU's, "8.9",
    None while it is not known.

    Raises EngineFolderError that names both sides of the first mismatch.
    """
    plan = manifest.plan
    if plan is None:
        raise EngineFolderError(
            f"{manifest.name} has no TensorRT plan; build it with `autoglm build --runtime tensorrt`"
        )
    if plan.flavour != flavour:
        raise EngineFolderError(f"the plan was built with {plan.flavour}, {flavour} is installed; rebuild it")
    if plan.version != version:
        raise EngineFolderError(
            f"the plan was built with {flavour} {plan.version}, {version} is installed; "
            "install that version or rebuild the engine"
        )
    if capability and plan.compute_capabilities and capability not in plan.compute_capabilities:
        built = ", ".join(plan.compute_capabilities)
        raise EngineFolderError(
            f"the plan was built for compute capability {built}, this GPU has {capability}; rebuild it"
        )
    if plan.file not in manifest.files:
        raise EngineFolderError(f"the manifest has no fingerprint of {plan.file}; rebuild the engine")
    for name in ("decode", "prefill"):
        profile_index(plan, name)
    return plan


def profile_index(plan: Plan, name: str) -> int:
    """Which optimization profile has this name. Raises EngineFolderError when there is none."""
    for index, profile in enumerate(plan.profiles):
        if profile.name == name:
            return index
    raise EngineFolderError(f"the plan has no {name} profile; rebuild the engine")


def profile(plan: Plan, name: str) -> Profile:
    """The optimization profile of this name."""
    return plan.profiles[profile_index(plan, name)]
