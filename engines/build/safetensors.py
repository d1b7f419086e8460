"""Lazy reading of safetensors files (format: https://huggingface.co/docs/safetensors)."""

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from engines.errors import CheckpointError

_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
_INDEX = "model.safetensors.index.json"
_MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies: file, dtype as the file names it, shape, absolute byte offset."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int


class SafeTensors:
    """All tensors of a folder, single-file or sharded; a tensor's bytes are mapped only while it is used."""

    def __init__(self, folder: Path) -> None:
        """Raises CheckpointError for missing, truncated or malformed files, OSError for unreadable ones."""
        self.files = _shards(folder)
        self._entries: dict[str, Entry] = {}
        for file in self.files:
            self._entries.update(_header(file))

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def names(self) -> list[str]:
        return list(self._entries)

    def entry(self, name: str) -> Entry:
        return self._entries[name]

    def read(self, name: str) -> np.ndarray[Any, Any]:
        """A read-only view in the file's own dtype; raises CheckpointError for dtypes that are not floats."""
        entry = self._entries[name]
        if entry.dtype not in _DTYPES:
            raise CheckpointError(
                f"{entry.file.name}: {name} has dtype {entry.dtype}; the factory reads {', '.join(_DTYPES)}"
            )
        if 0 in entry.shape:
            return np.zeros(entry.shape, _DTYPES[entry.dtype])
        return np.memmap(entry.file, _DTYPES[entry.dtype], "r", entry.offset, entry.shape)


def _shards(folder: Path) -> list[Path]:
    index = folder / _INDEX
    if not index.is_file():
        single = folder / "model.safetensors"
        if not single.is_file():
            raise CheckpointError(f"{folder} has neither model.safetensors nor {_INDEX}")
        return [single]
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{index} is not a safetensors index: {error!r}") from error
    for name in names:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name} is missing; {_INDEX} lists it")
    return [folder / name for name in names]


def _header(file: Path) -> dict[str, Entry]:
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size - 8, _MAX_HEADER_BYTES):
                raise ValueError(f"header of {length} bytes in a file of {size}")
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        return {name: _entry(file, size, 8 + length, info) for name, info in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error) as error:
        raise CheckpointError(f"{file} is truncated or not a safetensors file: {error}") from error


def _entry(file: Path, size: int, base: int, info: dict[str, Any]) -> Entry:
    begin, end = info["data_offsets"]
    shape = tuple(info["shape"])
    if not all(type(number) is int and number >= 0 for number in (begin, end, *shape)):
        raise ValueError(f"shape {shape} or place {begin}, {end} is none")
    if base + end > size:
        raise ValueError(f"data ends at byte {base + end}, the file has {size}")
    if info["dtype"] in _DTYPES and end - begin != _DTYPES[info["dtype"]].itemsize * math.prod(shape):
        raise ValueError(f"shape {shape} does not fit its {end - begin} bytes")
    return Entry(file, info["dtype"], shape, base + begin)
