"""What the factory promises the machine: `manifest.json` of an engine folder."""

import hashlib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines.errors import EngineFolderError

FORMAT = 1
FILE_NAME = "manifest.json"
CACHE_PREFIX = "compiled-"
"""Of the files that the machine adds to the folder to start faster; it does without them."""

Precision = Literal["fp32", "fp8", "int8", "int4"]
Dialect = Literal["fused", "standard"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Sizes(_Part):
    """Dimensions of the model, in elements."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int = Field(description="Heads of each KV cache tensor.")
    head_dim: int = Field(description="Last axis of each KV cache tensor.")
    vocab_size: int
    context: int = Field(description="Largest number of positions of one row (prompt and answer).")
    parameters: int


class KVLayout(_Part):
    """Every layer has past_key_i and past_value_i of this dtype and (symbolic) shape."""

    dtype: str = "float32"
    shape: tuple[int | str, ...]

    def bytes_per_token(self, layers: int) -> int:
        """Bytes one token occupies in the caches of all `layers` together."""
        width = {"float32": 4, "float16": 2, "bfloat16": 2}[self.dtype]
        _, heads, _, head_dim = self.shape
        return 2 * layers * int(heads) * int(head_dim) * width


class FileEntry(_Part):
    """Fingerprint of one file of the folder."""

    sha256: str
    bytes: int

    @classmethod
    def of(cls, path: Path) -> Self:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(sha256=digest, bytes=path.stat().st_size)

    def compare(self, path: Path) -> None:
        """Raises EngineFolderError when the file is another one, OSError when it cannot be read."""
        if not path.is_file():
            raise EngineFolderError(f"{path} is missing; build the engine again")
        size = path.stat().st_size
        if size != self.bytes:
            raise EngineFolderError(f"{path} has {size} bytes, the manifest says {self.bytes}; rebuild it")
        found = FileEntry.of(path)
        if found != self:
            raise EngineFolderError(
                f"{path} has SHA-256 {found.sha256}, the manifest says {self.sha256}; rebuild it"
            )


class Profile(_Part):
    """One TensorRT optimization profile: the ranges it was compiled for."""

    name: Literal["decode", "prefill"]
    batch: tuple[int, int, int]
    tokens: tuple[int, int, int]
    logit_positions: tuple[int, int, int]


class Plan(_Part):
    """What a compiled TensorRT plan was made by and for."""

    file: str
    flavour: Literal["tensorrt", "tensorrt_rtx"]
    version: str
    compute_capabilities: tuple[str, ...] = Field(description="Empty: whatever the runtime supports.")
    capacity: int = Field(description="Static S of the KV caches, in tokens.")
    profiles: tuple[Profile, ...]


class _Format(BaseModel):
    """All that can be expected of a manifest of another version."""

    format: int


class Manifest(BaseModel):
    """Everything the machine must know before it opens a graph."""

    model_config = ConfigDict(extra="forbid")

    format: int = FORMAT
    name: str
    family: str = Field(description="Hugging Face model_type.")
    precision: Precision
    block: int | None = Field(
        description="Weights per quantization scale where their number allows it; "
        "8-bit weights of a plan have one scale per output."
    )
    dtype: str = Field(description="dtype of activations and logits.")
    runtime: Literal["onnxruntime", "tensorrt", "tensorrt_rtx"] = "onnxruntime"
    dialect: Dialect
    graphs: dict[str, str] = Field(description="Dialect to file name.")
    sizes: Sizes
    kv: KVLayout
    eos_token_ids: list[int]
    tokenizer_sha256: str | None
    source_sha256: str = Field(
        description="Fingerprint of checkpoint and options; equal means nothing to build."
    )
    builder: dict[str, str] = Field(description="Versions of what wrote it.")
    plan: Plan | None = None
    quality: dict[str, Any] | None = None
    files: dict[str, FileEntry]

    def save(self, folder: Path) -> None:
        (folder / FILE_NAME).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, *, verify: bool = True) -> Self:
        """Read and, unless `verify` is off, check size and SHA-256 of every file.

        Raises EngineFolderError naming the file and both sides of the mismatch.
        """
        path = folder / FILE_NAME
        try:
            text = path.read_bytes()
            if (found := _Format.model_validate_json(text).format) != FORMAT:
                raise EngineFolderError(f"{path} has format {found}, this version reads {FORMAT}; rebuild it")
            manifest = cls.model_validate_json(text)
        except OSError as error:
            raise EngineFolderError(
                f"{path} cannot be read ({error.strerror}); is this an engine folder?"
            ) from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise EngineFolderError(f"{path}: {where}: {first['msg']}; build the engine again") from error
        if verify:
            manifest.verify(folder)
        return manifest

    def verify(self, folder: Path) -> None:
        """Compare every listed file with its fingerprint; raises EngineFolderError."""
        for name, promised in self.files.items():
            try:
                promised.compare(folder / name)
            except OSError as error:
                raise EngineFolderError(
                    f"{folder / name} cannot be read ({error.strerror}); let this user read it, or rebuild it"
                ) from error
