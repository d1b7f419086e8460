"""Which KV slot holds which tokens. Pure accounting: it decides copies, the engine makes them.

Rows that run always occupy slots [0, active), because one decode step binds a contiguous range. A row
that ends leaves its slot cached; the hole is filled by the next prompt or by moving the last row down.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]


class Copy(NamedTuple):
    """Copy the first `length` positions of slot `source` to slot `target`."""

    source: int
    target: int
    length: int


class Placement(NamedTuple):
    """A prompt's slot, how many of its tokens are in it, and the copies that make it so, in order."""

    slot: int
    cached: int
    copies: list[Copy]


class Move(NamedTuple):
    """A row that changed its slot."""

    owner: int
    slot: int


class SlotTable:
    """`slots` KV slots of `capacity` tokens, at most `rows` of them running at once.

    With rows < slots a finished row's KV survives compaction even under full load.
    """

    def __init__(self, slots: int, capacity: int, rows: int | None = None) -> None:
        self.slots, self.capacity = slots, capacity
        self.rows = slots if rows is None else rows
        if not 1 <= self.rows <= slots:
            raise ValueError(f"rows must be in [1, {slots}], not {self.rows}")
        self.bound = 0  # running rows and holes are slots [0, bound)
        self.owners: list[int | None] = [None] * slots
        # The first valid[s] columns of tokens[s] are the ids whose KV slot s holds.
        self.tokens = np.zeros((slots, capacity), np.int64)
        self.valid = np.zeros(slots, np.int64)
        self._used = np.zeros(slots, np.int64)
        self._tick = 0
        self._holes: set[int] = set()

    @property
    def active(self) -> int:
        """Rows that run."""
        return self.bound - len(self._holes)

    @property
    def cached(self) -> int:
        """Slots that hold KV and run nothing."""
        return sum(1 for s in range(self.slots) if self.owners[s] is None and self.valid[s])

    def shared_lengths(self, tokens: Tokens) -> NDArray[np.int64]:
        """Longest common prefix of `tokens` with what each slot holds, [slots]."""
        width = min(len(tokens), int(self.valid.max()))
        differs = np.ones((self.slots, width + 1), bool)  # the last column stops the search
        np.not_equal(self.tokens[:, :width], tokens[:width], out=differs[:, :width])
        shared: NDArray[np.int64] = np.minimum(differs.argmax(axis=1), self.valid)
        return shared

    def place(self, owner: int, prompt: Tokens) -> Placement:
        """Give `owner` a running slot that already holds as much of `prompt` as any slot does.

        At least the prompt's last token is left to compute: its logits are wanted.
        """
        if self.active == self.rows:
            raise RuntimeError("every row is taken")
        lengths = self.shared_lengths(prompt[:-1])
        # Of equally good sources, one that can be taken over saves the copy.
        order = [(int(lengths[s]), s in self._holes, s == self.bound, -s) for s in range(self.slots)]
        length, in_hole, at_bound, negative = max(order)
        source, copies = -negative, list[Copy]()
        free = in_hole or (at_bound and not self._holes)
        if length and free and 2 * length >= self.valid[source]:
            slot = source
        else:
            slot = min(self._holes, key=lambda s: self._used[s]) if self._holes else self.bound
            copies += self._keep(slot, source if length else None)
            if length and slot != source:
                copies.append(Copy(source, slot, length))
                self._touch(source)
                self.tokens[slot, :length] = self.tokens[source, :length]
        self._holes.discard(slot)
        self.bound = max(self.bound, slot + 1)
        self.owners[slot], self.valid[slot] = owner, length
        self._touch(slot)
        return Placement(slot, length, copies)

    def extend(self, slot: int, tokens: Sequence[int] | Tokens) -> None:
        """`tokens` were computed at the end of `slot`."""
        start = int(self.valid[slot])
        self.tokens[slot, start : start + len(tokens)] = tokens
        self.valid[slot] = start + len(tokens)

    def extend_each(self, slots: NDArray[np.int64], tokens: Tokens) -> None:
        """One token was computed at the end of each of `slots`."""
        self.tokens[slots, self.valid[slots]] = tokens
        self.valid[slots] += 1

    def truncate(self, slot: int, length: int) -> None:
        """What `slot` holds beyond `length` tokens is not wanted any more."""
        self.valid[slot] = min(int(self.valid[slot]), length)

    def release(self, slot: int) -> None:
        """The row in `slot` ended; its KV stays cached, and copies of parts of it are forgotten."""
        if self.owners[slot] is None:
            raise RuntimeError(f"slot {slot} runs nothing")
        self.owners[slot] = None
        self._holes.add(slot)
        self._touch(slot)
        whole = self.tokens[slot, : self.valid[slot]]
        contained = self.shared_lengths(whole) == self.valid
        for s in np.flatnonzero(contained).tolist():
            if s != slot and self.owners[s] is None:
                self.valid[s] = 0

    def compact(self) -> tuple[list[Copy], list[Move]]:
        """Fill holes with the last rows, so that running rows are slots [0, active)."""
        copies, moves = list[Copy](), list[Move]()
        while self._holes:
            last = self.bound - 1
            if last not in self._holes:
                hole, owner = min(self._holes), self.owners[last]
                assert owner is not None
                copies += self._keep(hole, last)
                length = int(self.valid[last])
                copies.append(Copy(last, hole, length))
                moves.append(Move(owner, hole))
                self.tokens[hole, :length] = self.tokens[last, :length]
                self.valid[hole], self._used[hole] = length, self._used[last]
                self.owners[hole], self.owners[last] = owner, None
                self.valid[last] = 0
                self._holes.discard(hole)
            self._holes.discard(last)
            self.bound = last
        return copies, moves

    def check(self) -> None:
        """Raise RuntimeError when the accounting contradicts itself."""
        owners = [owner for owner in self.owners if owner is not None]
        running = {s for s in range(self.slots) if self.owners[s] is not None}
        problems = {
            "a row is in two slots": len(set(owners)) != len(owners),
            "a row runs outside the bound": running != set(range(self.bound)) - self._holes,
            "a slot holds more than its capacity": bool((self.valid > self.capacity).any()),
            "a slot holds less than nothing": bool((self.valid < 0).any()),
            "more rows run than may": self.active > self.rows,
        }
        wrong = [text for text, found in problems.items() if found]
        if wrong:
            raise RuntimeError("slot accounting is broken: " + "; ".join(wrong))

    def _keep(self, slot: int, busy: int | None) -> list[Copy]:
        """Before `slot` is overwritten: move what it caches over something staler, if there is any."""
        length = int(self.valid[slot])
        spare = [s for s in range(self.bound, self.slots) if s not in (slot, busy)]
        if not length or not spare:
            return []
        victim = min(spare, key=lambda s: (bool(self.valid[s]), self._used[s]))
        if self.valid[victim] and self._used[victim] > self._used[slot]:
            return []
        self.tokens[victim, :length] = self.tokens[slot, :length]
        self.valid[victim], self._used[victim] = length, self._used[slot]
        return [Copy(slot, victim, length)]

    def _touch(self, slot: int) -> None:
        self._tick += 1
        self._used[slot] = self._tick
