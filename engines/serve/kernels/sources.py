"""The CUDA C text of all kernels, one translation unit."""

import hashlib
from importlib.resources import files

_PARTS = ("base.cuh", "sample.cu", "move.cu")
KERNELS = ("sample", "copy_slot", "feed")


def source() -> str:
    """What NVRTC compiles; includes nothing."""
    folder = files(__package__)
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in _PARTS)


def fingerprint() -> str:
    """SHA-256 of the text, to tell compiled code of one version from that of another."""
    return hashlib.sha256(source().encode()).hexdigest()
