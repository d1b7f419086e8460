"""The CUDA C text of all kernels, one translation unit."""

from importlib.resources import files

_PARTS = ("base.cuh", "sample.cu", "move.cu")
KERNELS = ("sample", "copy_slot", "feed")


def source() -> str:
    """What NVRTC compiles; includes nothing."""
    folder = files(__package__)
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in _PARTS)
