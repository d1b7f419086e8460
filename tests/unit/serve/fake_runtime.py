"""A runtime without a model: each cache cell holds a hash of all tokens up to it, so a cell that was not
computed from exactly the right tokens changes every later logit."""

import threading

import numpy as np

from engines.serve.runtime.ort import Drawn
from engines.serve.sampler import draw

MASK = (1 << 61) - 1


class FakeRuntime:
    depth = 1

    def __init__(self, slots=8, capacity=64, vocab_size=97):
        self.slots, self.capacity, self.vocab_size, self.hidden_size = slots, capacity, vocab_size, 3
        self.cells = [[-1] * capacity for _ in range(slots)]
        self.rows = np.full((slots, vocab_size), np.nan, np.float32)
        self.states = np.full((slots, self.hidden_size), np.nan, np.float32)
        self.decoded_rows, self.prefills, self.copies, self.cleared = [], [], 0, []
        self.fail_at = None
        self.closed = False
        self.gate = threading.Event()  # cleared: steps wait, so that tests can act in between
        self.gate.set()

    def _compute(self, slot, position, token):
        before = self.cells[slot][position - 1] if position else 0
        assert before >= 0, f"slot {slot} is read at {position - 1} before it was computed"
        self.cells[slot][position] = (before * 1_000_003 + int(token) * 7919 + 12345) % MASK
        return self.cells[slot][position]

    def logits_of(self, cell):
        mixed = (np.arange(1, self.vocab_size + 1, dtype=np.uint64) * np.uint64(cell | 1)) >> np.uint64(7)
        return (mixed % np.uint64(100_003)).astype(np.float32) / 1e4

    def _tick(self):
        assert self.gate.wait(10)
        if self.fail_at is not None:
            self.fail_at -= 1
            if self.fail_at < 0:
                raise RuntimeError("device lost")

    def prefill(self, slots, tokens, starts):
        self._tick()
        assert len(slots) == len(tokens) == len(starts)
        self.prefills.append((slots, [len(t) for t in tokens], starts.tolist()))
        for slot, ids, start in zip(slots, tokens, starts.tolist(), strict=True):
            for position, token in enumerate(ids.tolist(), start):
                cell = self._compute(slot, position, token)
            self.rows[slot], self.states[slot] = self.logits_of(cell), self.hidden_of(cell)

    def decode(self, tokens, positions):
        self._tick()
        assert len(tokens) == len(positions)
        self.decoded_rows.append(len(tokens))
        for slot, (token, position) in enumerate(zip(tokens.tolist(), positions.tolist(), strict=True)):
            cell = self._compute(slot, position, token)
            self.rows[slot], self.states[slot] = self.logits_of(cell), self.hidden_of(cell)

    def sample(self, table, allowed=None, seen=None):
        return Drawn(draw(self.rows, table, allowed, seen))

    def finish(self):
        pass

    def logits(self, slots):
        return self.rows[slots.start : slots.stop].copy()

    def hidden_of(self, cell):
        return np.array([cell & 0xFFFF, (cell >> 16) & 0xFFFF, (cell >> 32) & 0xFFFF], np.float32)

    def hidden(self, slots):
        return self.states[slots.start : slots.stop].copy()

    def copy_slot(self, source, target, length):
        self.copies += 1
        assert min(self.cells[source][:length], default=0) >= 0
        self.cells[target][:length] = self.cells[source][:length]

    def clear_slot(self, slot):
        self.cleared.append(slot)
        self.cells[slot][:] = [-1] * self.capacity

    def close(self):
        self.closed = True

    def greedy(self, prompt, count, stops=()):
        """What the engine must answer, computed straight."""
        cell, answer = 0, []
        for token in prompt:
            cell = (cell * 1_000_003 + int(token) * 7919 + 12345) % MASK
        for _ in range(count):
            token = int(self.logits_of(cell).argmax())
            if token in stops:
                break
            answer.append(token)
            cell = (cell * 1_000_003 + token * 7919 + 12345) % MASK
        return answer
