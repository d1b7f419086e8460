"""The shortest way out of a grammar, for an answer that runs out of tokens."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from engines.errors import GrammarError
from engines.serve.masks import GrammarState
from engines.serve.row import Row

_RESERVE = 64  # tokens that a way out may grow by between two looks at it
_ENDINGS = frozenset(b'"}])')


class Closing:
    """Finds tokens that complete an answer in one vocabulary: in JSON, what closes strings and brackets.

    bytes_of: the bytes of a token id, b"" for special ones.
    """

    def __init__(self, bytes_of: Callable[[int], bytes], vocab_size: int) -> None:
        self._bits = np.zeros(-(-vocab_size // 32), np.int32)
        self._ranks = np.array([_rank(bytes_of(index)) for index in range(vocab_size)], np.int64)

    def instead(self, row: Row, tokens: list[int], complete: bool) -> list[int] | None:
        """What `row` must write instead of `tokens` to be complete at its limit; None while it still can be.

        `tokens`, which its grammar has accepted, are not in row.known yet. The way out found at one token is
        valid until the next; so where every token is looked at, the answer ends complete.
        """
        room = row.full - len(row.known) - len(tokens)
        before, row.ending = row.ending, None
        if room > row.look_at:
            return None
        stop = _first(tokens, row.stops)
        if complete or stop is not None:
            beyond = 0 if stop is None else len(tokens) - stop
            return None if room + beyond >= 0 else before
        assert row.grammar is not None
        row.ending = self._path(row.grammar, row.stops, room)
        if row.ending is None:
            row.look_at = room * 3 // 4
            return before
        near = len(row.ending) + _RESERVE
        row.look_at = room - 1 if room <= near else max(near, room // 2)
        return None

    def _path(self, state: GrammarState, stops: frozenset[int], limit: int) -> list[int] | None:
        """At most `limit` tokens, a stop token not included, after which the answer may end.

        `state` stays where it is. None when no way was found; it may not be the shortest one.
        """
        try:
            return self._walk(state.copy(), stops, limit)
        except GrammarError:
            return None

    def _walk(self, state: GrammarState, stops: frozenset[int], limit: int) -> list[int] | None:
        found = list[int]()
        while len(found) <= limit:
            found += state.follow()
            if (stop := _first(found, stops)) is not None:
                found = found[:stop]
                break
            if state.complete or state.accepting:
                break
            allowed = self._allowed(state)
            if any(int(self._bits[token >> 5]) >> (token & 31) & 1 for token in stops):
                break
            if not len(allowed):
                return None
            token = int(allowed[self._ranks[allowed].argmin()])
            if not state.accept(token):
                return None
            found.append(token)
        return found if len(found) <= limit else None

    def _allowed(self, state: GrammarState) -> NDArray[np.int64]:
        state.fill(self._bits.ctypes.data, self._bits.nbytes)
        return np.flatnonzero(np.unpackbits(self._bits.view(np.uint8), bitorder="little")[: len(self._ranks)])


def _first(tokens: list[int], stops: frozenset[int]) -> int | None:
    """Where the first stop token is."""
    return next((i for i, token in enumerate(tokens) if token in stops), None)


def _rank(text: bytes) -> int:
    """Lowest first: a mark that ends something, closing characters, any one byte, marks, longer tokens."""
    if text.startswith(b"</"):
        return -100
    if text and _ENDINGS.issuperset(text):
        return -len(text)
    return len(text) if text else 50
