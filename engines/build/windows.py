"""Texts as windows of token ids, for calibration and for the report."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray

from engines.build.checkpoint import Checkpoint
from engines.errors import BuildError

Text = str | Sequence[int]
"""Plain or rendered text (literals of special tokens count as the tokens), or token ids."""

Windows = list[NDArray[np.int64]]

TOKENS = 16384
_LENGTH = 512
_SHORTEST = 2


def windows(source: Checkpoint, texts: Sequence[Text], budget: int = TOKENS) -> Windows:
    """Pieces of the texts of up to 512 tokens, `budget` tokens in all, evenly from all texts.

    Raises BuildError for text without a tokenizer.json beside the weights, or ids beyond the vocabulary.
    """
    tokenizer = _tokenizer(source.folder) if any(isinstance(text, str) for text in texts) else None
    length = min(_LENGTH, source.config.context)
    pieces: Windows = []
    for text in texts:
        ids = (
            tokenizer.encode(text, add_special_tokens=False).ids
            if isinstance(text, str) and tokenizer
            else text
        )
        array = np.array(ids, np.int64)
        if array.size and (array.min() < 0 or array.max() >= source.config.vocab_size):
            raise BuildError(f"token id {array.max()} is beyond the vocabulary of {source.config.vocab_size}")
        pieces += [p for b in range(0, len(array), length) if len(p := array[b : b + length]) >= _SHORTEST]
    return sample(pieces, budget)


def sample(pieces: Windows, budget: int) -> Windows:
    """Windows evenly spread over all of them, some `budget` tokens; at least one if there is one."""
    step = max(sum(map(len, pieces)) / budget, 1.0)
    return [pieces[int(i * step)] for i in range(int(len(pieces) / step))] or pieces[:1]


def _tokenizer(folder: Path) -> tokenizers.Tokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise BuildError(f"{folder} has no tokenizer.json; give calibration text as token ids")
    return tokenizers.Tokenizer.from_file(str(path))
