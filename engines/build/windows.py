"""Texts as windows of token ids, for calibration and for the report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray

from engines.build.checkpoint import Checkpoint
from engines.errors import BuildError, CheckpointError


@dataclass(frozen=True, eq=False)
class Window:
    """ids int64 [T]; counted bool [T]: the tokens whose prediction the report is about."""

    ids: NDArray[np.int64]
    counted: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)


Text = str | Sequence[int] | tuple[Sequence[int], Sequence[bool]]
"""Plain or rendered text (literals of special tokens count as the tokens), token ids, or ids and which of
them the model is meant to predict (a chat model: its own turns, not the user's)."""

Windows = list[Window]

_STATES = 1 << 26  # numbers of the residual stream that are kept, and as many of the branch: 512 MiB
_TOKENS = (16384, 65536)
_LENGTH = 1024


def calibration_tokens(source: Checkpoint) -> int:
    """As many as memory allows between 16 and 64 thousand: more of them for narrower models."""
    least, most = _TOKENS
    return min(max(_STATES // source.config.hidden, least), most)


def windows(source: Checkpoint, texts: Sequence[Text], budget: int) -> Windows:
    """Pieces of the texts of up to 1024 tokens, `budget` tokens in all, evenly from all texts.

    Pieces in which no prediction counts are left out: a report on such ones alone would say nothing.
    Raises BuildError for text without a tokenizer.json beside the weights, or ids beyond the vocabulary;
    CheckpointError for a tokenizer.json that cannot be read.
    """
    tokenizer = _tokenizer(source.folder) if any(isinstance(text, str) for text in texts) else None
    length = min(_LENGTH, source.config.context)
    pieces: Windows = []
    for text in texts:
        ids, counted = _tokens(text, tokenizer)
        if ids.size and (ids.min() < 0 or ids.max() >= source.config.vocab_size):
            wrong = ids.max() if ids.max() >= source.config.vocab_size else ids.min()
            raise BuildError(f"token id {wrong} is beyond the vocabulary of {source.config.vocab_size}")
        cuts = (slice(begin, begin + length) for begin in range(0, len(ids), length))
        pieces += [Window(ids[cut], counted[cut]) for cut in cuts if counted[cut][1:].any()]
    if texts and not pieces:
        raise BuildError("the calibration or held-out text has no token that another one precedes; give more")
    return sample(pieces, budget)


def sample(pieces: Windows, budget: int) -> Windows:
    """Windows evenly spread over all of them, some `budget` tokens; at least one if there is one."""
    step = max(sum(map(len, pieces)) / budget, 1.0)
    return [pieces[int(i * step)] for i in range(int(len(pieces) / step))] or pieces[:1]


def _tokens(
    text: Text, tokenizer: tokenizers.Tokenizer | None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    if isinstance(text, tuple):
        return np.array(text[0], np.int64), np.array(text[1], np.bool_)
    if isinstance(text, str):
        assert tokenizer is not None
        text = tokenizer.encode(text, add_special_tokens=False).ids
    return np.array(text, np.int64), np.ones(len(text), np.bool_)


def _tokenizer(folder: Path) -> tokenizers.Tokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise BuildError(f"{folder} has no tokenizer.json; give calibration text as token ids")
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
        tokenizer.no_truncation()  # as training left it
        tokenizer.no_padding()
        return tokenizer
    except Exception as error:  # tokenizers raises bare Exception
        raise CheckpointError(f"{path} cannot be read ({error}); copy it anew") from error
