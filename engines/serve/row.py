"""One generation while the machine works on it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engines.errors import GenerationFailed
from engines.serve.generation import Generation
from engines.serve.history import History
from engines.serve.masks import GrammarState
from engines.serve.options import log_softmax
from engines.serve.prompt import Completion, FinishReason, Prompt


@dataclass(eq=False, slots=True)
class Row:
    """`known` are prompt and answer so far; the KV of all but the last few is in the row's slot.

    limit: tokens the answer may have; with them `known` is `full` long. seed: of the random numbers.
    drawn: the slot for which the token after `known` was drawn, while nobody has read it.
    logprobs: of the prompt's options, as far as `forks_read` of their forks tell.
    ending: tokens that complete the answer from here; found from `look_at` tokens before the limit on, see
    engines.serve.closing.
    Times are time.monotonic() seconds.
    """

    number: int
    prompt: Prompt
    limit: int
    stops: frozenset[int]
    seed: int
    submitted: float
    generation: Generation
    grammar: GrammarState | None = None
    history: History | None = None
    prompt_ids: NDArray[np.int64] = field(init=False)
    known: list[int] = field(init=False)
    full: int = field(init=False)
    slot: int | None = None
    drawn: int | None = None
    cached_tokens: int = 0
    forced_tokens: int = 0
    admitted: float | None = None
    first_token: float | None = None
    logprobs: NDArray[np.float64] | None = None
    hidden: tuple[float, ...] = ()
    forks_read: int = 0
    ending: list[int] | None = None
    look_at: int = field(init=False)

    def __post_init__(self) -> None:
        options = self.prompt.options
        self.prompt_ids = np.asarray(self.prompt.token_ids, np.int64)
        if options is not None:
            self.prompt_ids = np.append(self.prompt_ids, np.array(options.prefix, np.int64))
            self.logprobs = np.zeros(len(options.options))
        self.known = self.prompt_ids.tolist()
        self.full = len(self.known) + self.limit
        self.look_at = self.limit if self.limit <= 128 else self.limit * 3 // 4
        self.generation.follow(self.known)

    @property
    def priority(self) -> int:
        return self.prompt.priority

    @property
    def deadline(self) -> float | None:
        return self.prompt.deadline

    @property
    def last_drawn(self) -> bool:
        """Whether the token that is drawn and not read will be the answer's last, whatever it is."""
        return self.drawn is not None and len(self.known) + 1 == self.full

    @property
    def answer(self) -> list[int]:
        """What was drawn or forced so far; the path to a fork of the options is neither."""
        return self.known[len(self.prompt_ids) :] if self.prompt.draws else []

    def seen(self) -> NDArray[np.int32]:
        """The tokens of `known`, one bit each, for its repetition penalty."""
        assert self.history is not None
        self.history.update(self.known)
        return self.history.bits

    def read_fork(self, logits: NDArray[np.float32]) -> tuple[int, ...] | None:
        """Note how likely each way is at the fork it stands at, logits [V]; the path to the next, if any.

        Raises GenerationFailed.
        """
        assert self.logprobs is not None and self.prompt.options is not None
        forks = self.prompt.options.forks
        if forks:
            fork = forks[self.forks_read]
            logprobs = log_softmax(logits[fork.tokens])
            if not np.isfinite(logprobs).all():
                raise GenerationFailed
            for under, logprob in zip(fork.under, logprobs.tolist(), strict=True):
                self.logprobs[under] += logprob
            self.forks_read += 1
        return forks[self.forks_read].path if self.forks_read < len(forks) else None

    def take(self, hidden: NDArray[np.float32]) -> None:
        """Note the hidden state [hidden] of its last token. Raises GenerationFailed."""
        if not np.isfinite(hidden).all():
            raise GenerationFailed
        self.hidden = tuple(hidden.tolist())

    def go_to(self, path: Sequence[int]) -> int:
        """Let `known` be the prompt and `path`; returns how many of its tokens stay the same."""
        start = len(self.prompt_ids)
        before = self.known[start:]
        self.known[start:] = path
        same = next((i for i, pair in enumerate(zip(before, path, strict=False)) if pair[0] != pair[1]), None)
        return start + (min(len(before), len(path)) if same is None else same)

    def completion(self, reason: FinishReason, stop_token_id: int | None, now: float) -> Completion:
        admitted = now if self.admitted is None else self.admitted
        first = now if self.first_token is None else self.first_token
        answer = self.answer
        return Completion(
            token_ids=answer,
            finish_reason=reason,
            stop_token_id=stop_token_id,
            prompt_tokens=len(self.prompt_ids),
            cached_tokens=self.cached_tokens,
            completion_tokens=len(answer),
            forced_tokens=self.forced_tokens,
            queue_ms=(admitted - self.submitted) * 1e3,
            prefill_ms=(first - admitted) * 1e3,
            first_token_ms=0.0 if self.first_token is None else (first - self.submitted) * 1e3,
            decode_ms=(now - first) * 1e3,
            logprobs=() if self.logprobs is None else tuple(self.logprobs.tolist()),
            hidden=self.hidden,
        )
