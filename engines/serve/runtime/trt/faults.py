"""What a CUDA error means for the process. All of these stick: the context is gone, only a restart helps."""

from engines.errors import EngineTooLarge, GpuFailed, GpuLost

# What cuGetErrorString says of CUresult in the CUDA driver API, which PyCUDA hands on.
_LOST = ("no CUDA-capable device", "busy or unavailable", "invalid device ordinal", "unknown error")


def fault(error: BaseException, device: str, step: str) -> GpuFailed | EngineTooLarge:
    """One line for the log. error: what the driver's binding raised; step: what was being done."""
    text = " ".join(str(error).split()) or type(error).__name__
    if "out of memory" in text:
        return EngineTooLarge(f"{device} is out of memory while {step}: {text}; ask for fewer slots")
    kind = GpuLost if any(words in text for words in _LOST) else GpuFailed
    return kind(f"{device} failed while {step}: {text}")
