"""A runtime that puts off all work until somebody waits for it, as a GPU may."""

import numpy as np

POISON = -(1 << 40)


class DeferredRuntime:
    """`runtime` behind a queue. Arguments are copied when asked, work happens in order and as late as it can.

    overlapped: decode steps that were asked for while draws before them were unread.
    """

    depth = 2

    def __init__(self, runtime):
        self.runtime, self.latest = runtime, np.full(runtime.slots, POISON, np.int64)
        self.slots, self.capacity, self.vocab_size = runtime.slots, runtime.capacity, runtime.vocab_size
        self.hidden_size = runtime.hidden_size
        self.queue, self.overlapped, self.unread, self.most_unread = [], 0, 0, 0

    def prefill(self, slots, tokens, starts):
        tokens, starts = [ids.copy() for ids in tokens], starts.copy()
        self.queue.append(lambda: self.runtime.prefill(slots, tokens, starts))

    def decode(self, tokens, positions):
        assert tokens.max() < self.vocab_size and (-1 - tokens).max() < self.slots
        tokens, positions = tokens.copy(), positions.copy()
        self.overlapped += self.unread > 0

        def run():
            fed = np.where(tokens < 0, self.latest[np.maximum(-1 - tokens, 0)], tokens)
            assert fed.min() >= 0, "fed with a token that was never drawn"
            self.runtime.decode(fed, positions)

        self.queue.append(run)

    def sample(self, table, allowed=None, seen=None):
        table, allowed, seen = (None if array is None else array.copy() for array in (table, allowed, seen))
        found = []

        def run():
            draws = self.runtime.sample(table, allowed, seen).wait()
            kept = table["slot"] >= 0
            self.latest[table["slot"][kept]] = np.maximum(draws["token"][kept], 0)
            found.append(draws)

        self.queue.append(run)
        self.unread += 1
        self.most_unread = max(self.most_unread, self.unread)
        return _Draws(self, run, found)

    def finish(self):
        self._run(len(self.queue))

    def logits(self, slots):
        self.finish()
        return self.runtime.logits(slots)

    def hidden(self, slots):
        self.finish()
        return self.runtime.hidden(slots)

    def clear_slot(self, slot):
        self.queue.append(lambda: self.runtime.clear_slot(slot))

    def copy_slot(self, source, target, length):
        self.queue.append(lambda: self.runtime.copy_slot(source, target, length))

    def leave(self):
        pass

    def close(self):
        self.runtime.close()

    def _run(self, count):
        work, self.queue = self.queue[:count], self.queue[count:]
        for call in work:
            call()


class _Draws:
    """Unread until somebody waits for them or nobody can any more."""

    def __init__(self, owner, run, found):
        self._owner, self._run, self._found = owner, run, found
        self._unread = True

    def wait(self):
        owner = self._owner
        if not self._found:
            owner._run(owner.queue.index(self._run) + 1)
        self._end()
        return self._found[0].copy()

    def __del__(self):
        self._end()

    def _end(self):
        self._owner.unread -= self._unread
        self._unread = False
