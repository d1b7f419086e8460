"""The kernels: their CUDA C text, one translation unit, and the PTX that `make kernels` makes of it."""

import hashlib
from pathlib import Path

_FOLDER = Path(__file__).parent
_PARTS = ("base.cuh", "sample.cu", "move.cu")
KERNELS = ("sample", "copy_slot", "feed")
CAPABILITY = "8.0"  # the first with bfloat16; PTX runs on all later ones too
PTX = _FOLDER / "kernels.ptx"


def source() -> str:
    """What NVRTC compiles; includes nothing."""
    return "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in _PARTS)


def fingerprint() -> str:
    """SHA-256 of the source."""
    return hashlib.sha256(source().encode()).hexdigest()


def ptx() -> bytes:
    """What the driver loads, as the C string that it wants."""
    return PTX.read_bytes() + b"\0"
