"""Grammars at work on one tokenizer: compiled once per spec, copied per row, masks filled in place."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Self

from llguidance import LLMatcher, LLTokenizer

from engines.errors import GrammarError
from engines.serve.grammar import Grammar


class GrammarState:
    """Where one answer stands in its grammar. Used by one thread at a time."""

    def __init__(self, matcher: LLMatcher, ends: frozenset[int]) -> None:
        self._matcher, self._ends = matcher, ends

    def copy(self) -> "GrammarState":
        """Another answer that stands in the same place."""
        return GrammarState(self._matcher.deep_copy(), self._ends)

    @property
    def complete(self) -> bool:
        """Nothing more may follow."""
        return self._matcher.is_stopped()

    @property
    def accepting(self) -> bool:
        """The answer may end here."""
        return self._matcher.is_accepting()

    def fill(self, address: int, size: int) -> None:
        """Write the next token's mask to memory: one bit per token id, lowest first, 1 where it may come.

        address, size: of contiguous int32 words, in bytes. Raises GrammarError.
        """
        self._matcher.unsafe_compute_mask_ptr(address, size)
        self._check()

    def accept(self, token: int) -> bool:
        """The answer goes on with `token`; False, and nothing happens, when the grammar forbids it."""
        accepted = self._matcher.try_consume_tokens([token]) == 1
        if not accepted:
            self._check()
            # llguidance never tries one of its EOS tokens, though a grammar may name it as the end of a turn.
            if token in self._ends and self._allows(token):
                accepted = self._matcher.consume_token(token)
                self._check()
        return accepted

    def _allows(self, token: int) -> bool:
        mask = self._matcher.compute_bitmask()
        return bool(mask[token >> 3] >> (token & 7) & 1)

    def follow(self) -> list[int]:
        """The answer goes on with the tokens that must come before there is a choice; returns them."""
        forced = list[int]()
        while not self._matcher.is_stopped() and (more := self._matcher.compute_ff_tokens()):
            self._matcher.consume_tokens(more)
            forced += more
        self._check()
        return forced

    def _check(self) -> None:
        if self._matcher.is_error():
            raise GrammarError(
                f"the grammar cannot be followed: {_reason(self._matcher.get_error())}; loosen or simplify it"
            )


def _reason(error: str) -> str:
    """Without llguidance's account of its own state, in words where it has none."""
    text = error.partition("\n<state>")[0].strip()
    return "nothing fits it" if text == "NoExtensionBias" else text


class GrammarCompiler:
    """Compiled grammars of one tokenizer, the `size` last used ones kept. Safe to call from any thread."""

    def __init__(self, tokenizer: LLTokenizer, ends: frozenset[int] = frozenset(), size: int = 256) -> None:
        """`ends`: the ids that `tokenizer` takes for EOS."""
        self._tokenizer, self._ends, self._size = tokenizer, ends, size
        self._compiled: OrderedDict[Grammar, LLMatcher] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def over(cls, definition: str, vocab_size: int, eos_token_ids: Sequence[int]) -> Self:
        """definition: text of a tokenizer.json; vocab_size: the model's, which may be larger.

        Raises GrammarError.
        """
        try:
            tokenizer = LLTokenizer(definition, n_vocab=vocab_size, eos_token=list(eos_token_ids) or None)
        except ValueError as error:
            raise GrammarError(f"no grammar can be followed with this tokenizer.json: {error}") from error
        return cls(tokenizer, frozenset(eos_token_ids))

    def bytes_of(self, token: int) -> bytes:
        """The bytes of a token id; empty beyond the tokenizer's vocabulary."""
        return self._tokenizer.decode_bytes([token]) if token < self._tokenizer.vocab_size else b""

    def ready(self, grammar: Grammar) -> GrammarState | None:
        """A fresh state when `grammar` is compiled already, else None."""
        with self._lock:
            matcher = self._compiled.get(grammar)
            if matcher is None:
                return None
            self._compiled.move_to_end(grammar)
            return GrammarState(matcher.deep_copy(), self._ends)

    def compile(self, grammar: Grammar) -> GrammarState:
        """A fresh state; takes up to a second for a large grammar. Raises GrammarError."""
        state = self.ready(grammar)
        if state is not None:
            return state
        matcher = LLMatcher(self._tokenizer, grammar.spec, log_level=0)
        if matcher.is_error():
            raise GrammarError(f"the grammar cannot be compiled: {matcher.get_error().strip()}")
        with self._lock:
            self._compiled[grammar] = matcher
            while len(self._compiled) > self._size:
                self._compiled.popitem(last=False)
            return GrammarState(matcher.deep_copy(), self._ends)
