"""Token sequences of which one is to come, as a tree: where they part is where a model has to decide."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engines.errors import InvalidPrompt


@dataclass(frozen=True, slots=True)
class Fork:
    """After `path` one of `tokens` follows; `under[i]` are the options that go on with tokens[i]."""

    path: tuple[int, ...]
    tokens: NDArray[np.int64]
    under: tuple[NDArray[np.int64], ...]


@dataclass(frozen=True, slots=True)
class OptionTree:
    """`prefix` begins every option; `forks` come after it, a fork before those that lie behind it.

    So the KV of a fork's path goes on from the last one's, or parts from it. Raises InvalidPrompt when an
    option is empty or begins another one: end each with a stop token.
    """

    options: Sequence[Sequence[int]]
    prefix: tuple[int, ...] = field(init=False)
    forks: tuple[Fork, ...] = field(init=False)

    def __post_init__(self) -> None:
        every = [tuple(option) for option in self.options]
        forks = list[Fork]()
        pending = [list(range(len(every)))]
        while pending:
            members = pending.pop()
            shared = _shared([every[i] for i in members])
            at = len(shared)
            if len(members) == 1:
                if not every[members[0]]:
                    raise InvalidPrompt("an option needs at least one token")
                continue
            branches = dict[int, list[int]]()
            for i in members:
                if len(every[i]) == at:
                    raise InvalidPrompt("no option may begin another one; end each with a stop token")
                branches.setdefault(every[i][at], []).append(i)
            forks.append(
                Fork(shared, np.array(list(branches)), tuple(np.array(under) for under in branches.values()))
            )
            pending += reversed(branches.values())
        prefix = forks[0].path if forks else every[0][:-1]
        object.__setattr__(self, "prefix", prefix)
        object.__setattr__(
            self,
            "forks",
            tuple(Fork(fork.path[len(prefix) :], fork.tokens, fork.under) for fork in forks),
        )

    @property
    def depth(self) -> int:
        """Tokens of the longest path, without `prefix`."""
        return max((len(fork.path) for fork in self.forks), default=0)


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Log-probabilities over all of `logits` [n], in double precision."""
    shifted = logits.astype(np.float64) - float(logits.max())
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum())
    return result


def _shared(options: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    first, last = min(options), max(options)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    return first[: min(len(first), len(last)) if length is None else length]
