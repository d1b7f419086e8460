"""What a CUDA error means for the process. All of these stick: the context is gone, only a restart helps."""

from engines.errors import EngineTooLarge, GpuFailed, GpuLost

# Names of CUresult in the CUDA driver API.
_LOST = (
    "DEVICE_UNAVAILABLE",
    "DEVICE_NOT_LICENSED",
    "NO_DEVICE",
    "NO_CUDA-CAPABLE",
    "INVALID_DEVICE",
    "DEVICES_UNAVAILABLE",
    "UNKNOWN",
)
_MEMORY = ("OUT_OF_MEMORY",)


def fault(error: BaseException, device: str, step: str) -> GpuFailed | EngineTooLarge:
    """One line for the log. error: what the driver's binding raised; step: what was being done."""
    text = " ".join(str(error).split()) or type(error).__name__
    upper = text.upper().replace(" ", "_")
    if any(name in upper for name in _MEMORY):
        return EngineTooLarge(f"{device} is out of memory while {step}: {text}; ask for fewer slots")
    kind = GpuLost if any(name in upper for name in _LOST) else GpuFailed
    return kind(f"{device} failed while {step}: {text}")
