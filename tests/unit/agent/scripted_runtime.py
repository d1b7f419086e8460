"""A runtime whose model says what a test wrote down: engine, grammars and stops are the real ones."""

import time

import numpy as np

from engines.serve.runtime.ort import Drawn
from engines.serve.sampler import draw


class ScriptedRuntime:
    """`script(prompt)` gives the assistant's next turn, end token included, for the prompt's text."""

    depth = 1

    def __init__(self, tokenizer, script, slots=8, capacity=2048):
        self.slots, self.capacity, self.vocab_size = slots, capacity, tokenizer.vocab_size
        self.hidden_size: int | None = 4
        self.script, self.step_seconds = script, 0.0
        self._tokenizer = tokenizer
        self._ids = {tokenizer.bytes_of(index): index for index in range(tokenizer.vocab_size)}
        self._longest = max(map(len, self._ids))
        self._assistant = tokenizer.token_id("<|assistant|>")
        self._cells = [[0] * capacity for _ in range(slots)]
        self._states = np.zeros((slots, 4), np.float32)
        self._rows = np.zeros((slots, self.vocab_size), np.float32)

    def prefill(self, slots, tokens, starts):
        for slot, ids, start in zip(slots, tokens, starts.tolist(), strict=True):
            end = start + len(ids)
            self._cells[slot][start:end] = ids.tolist()
            self._rows[slot] = self._logits(slot, end)
            text = self._tokenizer.decode(self._cells[slot][:end], special=True)
            asked = text.rpartition("<|user|>")[2].partition("<|assistant|>")[0].strip().encode()
            self._states[slot] = np.frombuffer(asked[:4].ljust(4), np.uint8)

    def decode(self, tokens, positions):
        time.sleep(self.step_seconds)
        for slot, (token, position) in enumerate(zip(tokens.tolist(), positions.tolist(), strict=True)):
            self._cells[slot][position] = token
            self._rows[slot] = self._logits(slot, position + 1)

    def sample(self, table, allowed=None, seen=None):
        return Drawn(draw(self._rows, table, allowed, seen))

    def finish(self):
        pass

    def logits(self, slots):
        return self._rows[slots.start : slots.stop].copy()

    def hidden(self, slots):
        """The last user's text, first bytes first."""
        return self._states[slots.start : slots.stop].copy()

    def copy_slot(self, source, target, length):
        self._cells[target][:length] = self._cells[source][:length]

    def clear_slot(self, slot):
        self._cells[slot][:] = [-1] * len(self._cells[slot])

    def close(self):
        pass

    def _logits(self, slot, length):
        logits = np.zeros(self.vocab_size, np.float32)
        ids = self._cells[slot][:length]
        if self._assistant not in ids:  # a chunk from the middle of a prompt
            return logits
        turn = length - ids[::-1].index(self._assistant)
        said = b"".join(map(self._tokenizer.bytes_of, ids[turn:]))
        rest = self.script(self._tokenizer.decode(ids[:turn], special=True)).encode()[len(said) :]
        for size in range(min(self._longest, len(rest)), 0, -1):
            if (index := self._ids.get(rest[:size])) is not None:
                logits[index] = 10.0
                break
        return logits
