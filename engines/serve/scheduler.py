"""Who runs next, and what one step computes. Pure: no model, no thread, no clock of its own.

Every running row knows some tokens whose KV is not computed yet, its backlog: a prompt, tokens a grammar
forced, or the one token sampled last, which counts before it is read. A prefill computes many tokens of a
backlog at once, a decode step one of every row; a row whose backlog is empty after that has a next token to
sample.
"""

import heapq
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines.serve.costs import StepCosts
from engines.serve.row import Row
from engines.serve.slots import Copy, SlotTable, Tokens

_ENDED = 64  # rows that may stay in a heap beyond as many as are open


class Piece(NamedTuple):
    """Tokens [start, stop) of a row's known ones, to be prefilled now."""

    row: Row
    start: int
    stop: int


class Scheduler:
    """Queue and running rows over one SlotTable.

    patience: seconds after which a request without deadline counts as urgent as one whose deadline is now.
    share: a prompt waits for another one that is just computing at least this many tokens it needs too.
    """

    def __init__(self, table: SlotTable, costs: StepCosts, patience: float = 30.0, share: int = 16) -> None:
        self.table, self.costs = table, costs
        self.patience, self.share = patience, share
        self.rows: list[Row] = []  # once settled, rows[s] runs in slot s
        self._queue: list[tuple[int, float, int, Row]] = []
        self._waiting: dict[int, Row] = {}
        self._deadlines: list[tuple[float, int, Row]] = []

    @property
    def queued(self) -> int:
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether a step has anything to do."""
        return bool(self._waiting or self.rows)

    def add(self, row: Row) -> None:
        """Queue a row: higher priority first, then the earlier deadline, then the earlier arrival."""
        self._forget_the_ended()
        urgency = row.deadline if row.deadline is not None else row.submitted + self.patience
        heapq.heappush(self._queue, (-row.priority, urgency, row.number, row))
        self._waiting[row.number] = row
        if row.deadline is not None:
            heapq.heappush(self._deadlines, (row.deadline, row.number, row))

    def drop_queued(self, row: Row) -> bool:
        """Take a row out of the queue; False when it is not in it."""
        return self._waiting.pop(row.number, None) is not None

    def overdue(self, now: float) -> list[Row]:
        """Rows whose deadline has passed, queued and running; each is told once."""
        late = list[Row]()
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            late.append(heapq.heappop(self._deadlines)[-1])
        return late

    def next_deadline(self) -> float | None:
        """The earliest deadline of all rows, in time.monotonic() seconds."""
        while self._deadlines:
            deadline, _, row = self._deadlines[0]
            if self._open(row):
                return deadline
            heapq.heappop(self._deadlines)
        return None

    def admit(self) -> tuple[list[Row], list[Copy]]:
        """Move queued rows into slots while there are any; returns them and the copies to make, in order."""
        admitted, copies, held = list[Row](), list[Copy](), list[tuple[int, float, int, Row]]()
        while self._queue and self.table.active < self.table.rows and len(held) < self.table.rows:
            entry = heapq.heappop(self._queue)
            row = entry[-1]
            if row.number not in self._waiting:
                continue
            if self._worth_waiting(row.prompt_ids):
                held.append(entry)
                continue
            del self._waiting[row.number]
            placement = self.table.place(row.number, row.prompt_ids)
            row.slot, row.cached_tokens = placement.slot, placement.cached
            copies += placement.copies
            admitted.append(row)
            self.rows.append(row)
        for entry in held:
            heapq.heappush(self._queue, entry)
        return admitted, copies

    def settle(self) -> list[Copy]:
        """Make running rows slots [0, n) again; returns the copies to make, in order."""
        copies, moves = self.table.compact()
        by_number = {row.number: row for row in self.rows}
        for owner, slot in moves:
            by_number[owner].slot = slot
        self.rows.sort(key=lambda row: row.slot or 0)
        return copies

    def end(self, row: Row) -> None:
        """A running row is done; its slot stays cached."""
        assert row.slot is not None
        self.table.release(row.slot)
        row.slot = None
        self.rows.remove(row)

    def pieces(self) -> list[Piece]:
        """What to prefill in this step, most urgent row first, within the token budget."""
        backlogs = self._backlogs()
        if (backlogs == 1).all():
            return []
        rows = [row for row in self.rows if self._prefills(row)]
        rows.sort(key=lambda row: (-row.priority, row.number))
        budget = self.costs.prefill_budget(decoding=bool((backlogs == 1).any()))
        pieces = list[Piece]()
        for row in rows:
            if budget <= 0:
                break
            start = self.computed(row)
            stop = min(len(row.known), start + budget)
            budget -= stop - start
            pieces.append(Piece(row, start, stop))
        return pieces

    def decodes(self) -> bool:
        """Whether a decode step is due: some row waits for nothing else."""
        return any(not (row.last_drawn or self._prefills(row)) for row in self.rows)

    def computed(self, row: Row) -> int:
        """How many of the row's known tokens have their KV in its slot."""
        assert row.slot is not None
        return int(self.table.valid[row.slot])

    def backlog(self, row: Row) -> int:
        """Known tokens, and one that is drawn and not read, whose KV is not computed."""
        return len(row.known) + (row.drawn is not None) - self.computed(row)

    def check(self) -> None:
        """Raise RuntimeError when rows and slots disagree."""
        self.table.check()
        for slot, row in enumerate(self.rows):
            held = self.table.tokens[slot, : self.computed(row)]
            if row.slot != slot or self.table.owners[slot] != row.number or self.backlog(row) < 1:
                raise RuntimeError(f"row {row.number} and slot {slot} disagree")
            if (held != np.asarray(row.known[: len(held)])).any():
                raise RuntimeError(f"slot {slot} holds other tokens than row {row.number}")

    def _forget_the_ended(self) -> None:
        """Those deep in a heap would stay, with all that they hold, until they come to its top."""
        most = 2 * (len(self._waiting) + len(self.rows)) + _ENDED
        if len(self._queue) > most:
            self._queue = [entry for entry in self._queue if entry[-1].number in self._waiting]
            heapq.heapify(self._queue)
        if len(self._deadlines) > most:
            self._deadlines = [entry for entry in self._deadlines if self._open(entry[-1])]
            heapq.heapify(self._deadlines)

    def _open(self, row: Row) -> bool:
        return row.number in self._waiting or row.slot is not None

    def _backlogs(self) -> NDArray[np.int64]:
        """Of every row, in slot order; once settled."""
        lengths = (len(row.known) + (row.drawn is not None) for row in self.rows)
        known = np.fromiter(lengths, np.int64, len(self.rows))
        return known - self.table.valid[: len(known)]

    def _prefills(self, row: Row) -> bool:
        backlog = self.backlog(row)
        if backlog < 2:
            return False
        in_prompt = self.computed(row) < len(row.prompt_ids)
        return in_prompt or self.costs.prefill_pays(backlog, len(self.rows))

    def _worth_waiting(self, prompt: Tokens) -> bool:
        """Whether a running row is about to compute a prefix that this prompt could then copy."""
        coming = [row.prompt_ids for row in self.rows if self.backlog(row) > self.share]
        if not coming:
            return False
        there = int(self.table.shared_lengths(prompt[:-1]).max())
        return max(common_length(prompt[:-1], other) for other in coming) - there >= self.share


def common_length(one: Tokens, other: Tokens) -> int:
    """Length of the longest common prefix."""
    width = min(len(one), len(other))
    differs = one[:width] != other[:width]
    return int(differs.argmax()) if differs.any() else width


def adjacent(pieces: list[Piece]) -> list[list[Piece]]:
    """Split into runs of neighbouring slots."""
    ordered = sorted(pieces, key=lambda piece: piece.row.slot or 0)
    cuts = [i for i, (a, b) in enumerate(pairwise(ordered), 1) if (b.row.slot or 0) != (a.row.slot or 0) + 1]
    return [ordered[i:j] for i, j in pairwise([0, *cuts, len(ordered)])]


def steps_saved(piece: Piece) -> int:
    """Decode steps this row would have needed for the forced tokens of the piece."""
    prompt = len(piece.row.prompt_ids)
    beyond = piece.stop - max(piece.start, prompt)
    return max(0, beyond - (piece.start >= prompt))
