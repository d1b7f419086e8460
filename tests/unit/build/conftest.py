"""Checkpoints made of the golden ones: other dtypes, shards, faults."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from engines.build.checkpoint import Checkpoint
from engines.build.safetensors import SafeTensors

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
NAMES = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16", np.dtype(ml_dtypes.bfloat16): "BF16"}


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Format: https://huggingface.co/docs/safetensors"""
    header, offset = {}, 0
    for name, array in tensors.items():
        end = offset + array.nbytes
        dtype = NAMES.get(array.dtype, "I8")
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    path.write_bytes(
        len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in tensors.values())
    )


class Copy:
    """A golden checkpoint in memory, to be changed and written."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder
        source = SafeTensors(GOLDEN / name)
        self.tensors: dict[str, Any] = {key: np.array(source.read(key)) for key in source.names()}
        self.config: dict[str, Any] = json.loads((GOLDEN / name / "config.json").read_text())
        self.generation = GOLDEN / name / "generation_config.json"

    def write(self, shards: int = 1) -> Path:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        (self.folder / "config.json").write_text(json.dumps(self.config))
        shutil.copyfile(self.generation, self.folder / "generation_config.json")
        if shards == 1:
            write_safetensors(self.folder / "model.safetensors", self.tensors)
            return self.folder
        names = list(self.tensors)
        files = {f"model-{i + 1:05}-of-{shards:05}.safetensors": names[i::shards] for i in range(shards)}
        for file, part in files.items():
            write_safetensors(self.folder / file, {name: self.tensors[name] for name in part})
        index = {"metadata": {}, "weight_map": {name: file for file, part in files.items() for name in part}}
        (self.folder / "model.safetensors.index.json").write_text(json.dumps(index))
        return self.folder


@pytest.fixture
def copy(tmp_path):
    """copy(name) → Copy of a golden checkpoint, written below tmp_path."""
    return lambda name="glm": Copy(name, tmp_path / "checkpoint")


@pytest.fixture
def unreadable(monkeypatch):
    """unreadable(name): files of this name may not be opened, not even by root."""

    def deny(name):
        for method in ("open", "read_text"):
            monkeypatch.setattr(Path, method, checked(getattr(Path, method), name))

    def checked(method, name):
        def call(path, *how, **more):
            if path.name == name:
                raise PermissionError(13, "Permission denied", str(path))
            return method(path, *how, **more)

        return call

    return deny


@pytest.fixture
def checkpoint():
    return lambda name="glm": Checkpoint(GOLDEN / name)


@pytest.fixture(scope="session")
def texts():
    """(calibration, held out): token ids with some structure, so that inputs are correlated."""
    rng = np.random.default_rng(3)

    def draw(count, length):
        steps = rng.integers(1, 4, (count, length)).cumsum(axis=1)
        return ((steps + rng.integers(0, 256, (count, 1))) % 254 + 2).tolist()

    return draw(12, 100), draw(4, 100)
