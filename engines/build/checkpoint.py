"""A Hugging Face checkpoint folder, checked against its own config before anything is built."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engines.build.config import ModelConfig, load_config
from engines.build.parameters import Parameters, describe
from engines.build.safetensors import SafeTensors
from engines.errors import CheckpointError, UnsupportedModel

COMPANIONS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
    "special_tokens_map.json",
)
_LAYER = re.compile(r"model\.layers\.(\d+)\.(?!.*rotary_emb)")
_LISTED = 5


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What of `path` cannot be read in the block is a CheckpointError."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{error.filename or path} cannot be read ({error.strerror}); let this user read it"
        ) from error


class Checkpoint:
    """Config, parameters and lazily read tensors of one folder."""

    def __init__(self, folder: Path) -> None:
        """Raises CheckpointError or UnsupportedModel naming the value, tensor or file that is wrong."""
        if not folder.is_dir():
            raise CheckpointError(f"{folder} is not a folder; give a Hugging Face checkpoint folder")
        self.folder = folder
        with reading(folder):
            self.config: ModelConfig = load_config(folder)
            self.tensors = SafeTensors(folder)
        has_head = "lm_head.weight" in self.tensors
        tied = not has_head if self.config.tied is None else self.config.tied
        self.parameters: Parameters = describe(self.config, tied=tied)
        self._check()

    def files(self) -> list[Path]:
        """Every file the engine depends on."""
        names = ("config.json", *COMPANIONS)
        return [*(self.folder / n for n in names if (self.folder / n).is_file()), *self.tensors.files]

    def _check(self) -> None:
        expected = self.parameters.tensors()
        missing = [name for name in expected if name not in self.tensors]
        if missing:
            raise CheckpointError(f"{self.folder}: missing {_listing(missing)} that config.json calls for")
        for name, shape in expected.items():
            found = self.tensors.entry(name)
            if found.shape != shape:
                raise CheckpointError(
                    f"{name} has shape {list(found.shape)}; config.json calls for {list(shape)}"
                )
            self.tensors.read(name)
        strange = [name for name in self.tensors.names() if name not in expected and self._in_use(name)]
        if strange:
            raise UnsupportedModel(
                f"{self.folder}: {_listing(strange)} that a {self.config.family} model has no use for"
            )

    def _in_use(self, name: str) -> bool:
        """Whether a tensor nobody asked for would change the answer (layers past the last one only draft)."""
        match = _LAYER.match(name)
        return match is not None and int(match[1]) < self.config.layers


def _listing(names: list[str]) -> str:
    rest = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"tensor{'s' if len(names) > 1 else ''} {', '.join(names[:_LISTED])}{rest}"
