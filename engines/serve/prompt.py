"""What goes into the machine and what comes out: token ids, never text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from engines.errors import InvalidPrompt
from engines.serve.grammar import Grammar
from engines.serve.options import OptionTree

FinishReason = Literal["stop", "length", "cancelled", "expired"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn. temperature 0 is greedy; top_k 0, top_p 1 and min_p 0 keep all tokens.

    min_p: of the best token's probability. repetition_penalty: divides positive and multiplies negative
    logits of tokens in the context (Keskar et al. 2019); 1 changes nothing.
    The same seed draws the same tokens whatever else is in the batch; None draws a fresh one.
    Raises InvalidPrompt when a value is out of range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise InvalidPrompt(f"temperature must be 0 or more, not {self.temperature}")
        if self.top_k < 0:
            raise InvalidPrompt(f"top_k must be 0 (all) or more, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise InvalidPrompt(f"top_p must be in (0, 1], not {self.top_p}")
        if not 0 <= self.min_p <= 1:
            raise InvalidPrompt(f"min_p must be in [0, 1], not {self.min_p}")
        if not 0 < self.repetition_penalty <= 100:
            raise InvalidPrompt(f"repetition_penalty must be in (0, 100], not {self.repetition_penalty}")
        if self.seed is not None and not 0 <= self.seed < 2**64:
            raise InvalidPrompt(f"seed must be in [0, 2**64), not {self.seed}")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One thing to generate.

    token_ids: the whole context, in the model's vocabulary.
    stop_token_ids: end the answer (None: the model's own); ignore_eos: nothing does but max_tokens.
    priority: higher runs first; deadline: time.monotonic() seconds after which nobody wants it.
    options: how likely each is to follow is wanted, not an answer; one tree may serve many prompts.
    embed: the last hidden state is wanted, not an answer.
    room: so many tokens must fit behind the context.
    Raises InvalidPrompt.
    """

    token_ids: Sequence[int]
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    grammar: Grammar | None = None
    stop_token_ids: Sequence[int] | None = None
    ignore_eos: bool = False
    priority: int = 0
    deadline: float | None = None
    options: OptionTree | None = None
    embed: bool = False
    room: int = 1

    def __post_init__(self) -> None:
        if not len(self.token_ids):
            raise InvalidPrompt("a prompt needs at least one token")
        if self.max_tokens < 1:
            raise InvalidPrompt(f"max_tokens must be 1 or more, not {self.max_tokens}")
        if (self.options is not None) + (self.grammar is not None) + self.embed > 1:
            raise InvalidPrompt("a prompt has options, a grammar or is embedded, one of these")

    @property
    def draws(self) -> bool:
        """Whether tokens are to be drawn: else its last logits or hidden state are read."""
        return self.options is None and not self.embed


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens of one step of one generation."""

    token_ids: list[int]


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished generation. `token_ids` leaves out the stop token; times are milliseconds.

    cached_tokens: prompt tokens whose KV was reused; forced_tokens: tokens the grammar left no choice in.
    first_token_ms counts from submission (0 when there is none); prefill_ms from admission.
    logprobs: natural logarithm of each option's probability where at every token only options may go on.
    hidden: state of the prompt's last token after the final norm, where it was to be embedded.
    """

    token_ids: list[int]
    finish_reason: FinishReason
    stop_token_id: int | None
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    forced_tokens: int
    queue_ms: float
    prefill_ms: float
    first_token_ms: float
    decode_ms: float
    logprobs: tuple[float, ...] = ()
    hidden: tuple[float, ...] = ()
