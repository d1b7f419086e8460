"""One step of the machine: admit, prefill, decode, draw, hand out. Runs in the engine's thread only."""

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from engines.errors import GenerationFailed, GrammarError
from engines.serve.answers import Answers
from engines.serve.closing import Closing
from engines.serve.costs import StepCosts
from engines.serve.generation import Generation
from engines.serve.meter import Meter
from engines.serve.picks import Pick, Picker
from engines.serve.prompt import FinishReason
from engines.serve.row import Row
from engines.serve.runtime.contract import Runtime
from engines.serve.scheduler import Piece, Scheduler, adjacent, steps_saved
from engines.serve.slots import Copy, SlotTable
from engines.serve.stats import Counters
from engines.serve.turn import TURN


class Stepper:
    """Drives a runtime along a scheduler's plans; `forget` hears of every generation that ends.

    Where the runtime has more than one step at work, a decode step is asked for while the tokens it is fed
    are still being drawn; they are read, answers ended and masks filled while it runs. So every draw is made
    with all that came before it known, and what is computed for a row that turns out to be at its end is
    never looked at.
    """

    def __init__(
        self,
        runtime: Runtime,
        rows: int,
        costs: StepCosts,
        forget: Callable[[Generation], None],
        closing: Closing | None = None,
    ) -> None:
        self.runtime, self.costs, self.counters = runtime, costs, Counters()
        self.table = SlotTable(runtime.slots, runtime.capacity, rows)
        self.scheduler = Scheduler(self.table, costs)
        self._waits = runtime.depth == 1
        self._meter = Meter(costs, self.counters)
        self._answers = Answers(self.scheduler, self.counters, forget, closing, self._spoil)
        self._picker = Picker(runtime, rows, self.counters, self._answers.fail)
        self._unread: list[Pick] = []

    def add(self, row: Row) -> None:
        """Queue a row. One whose grammar leaves no choice at all ends here."""
        if row.grammar is not None and self._answers.append(row, []):
            return
        self.scheduler.add(row)

    def end(self, row: Row, reason: FinishReason) -> None:
        """Finish a queued or running row."""
        self._answers.end(row, reason)

    def flush(self) -> None:
        """Let the callers know."""
        self._answers.flush()

    def warm_up(self) -> None:
        """Run the graph before anybody waits for it, and learn what it costs. Only while no slot is used."""
        tokens = np.zeros(min(32, self.runtime.capacity - 1), np.int64)
        for measured in (False, True):  # the first run also allocates
            began = time.perf_counter()
            self.runtime.prefill(range(1), [tokens], np.zeros(1, np.int64))
            self.runtime.finish()
            between = time.perf_counter()
            self.runtime.decode(tokens[:1], np.array([len(tokens)]))
            self.runtime.finish()
            if measured:
                self.costs.record_prefill(len(tokens), between - began)
                self.costs.record_decode(1, time.perf_counter() - between)

    def step(self) -> None:
        """Advance every running row. Raises what the runtime raises."""
        with TURN:
            self._step()

    def _step(self) -> None:
        began = time.perf_counter()
        scheduler, now = self.scheduler, time.monotonic()
        for row in scheduler.overdue(now):
            self.end(row, "expired")
        if not scheduler.rows:
            self._unread.clear()  # nobody waits for these
        admitted, copies = scheduler.admit()
        for row in admitted:
            row.admitted = now
            self.counters.tokens_cached += row.cached_tokens
        self._copy(copies + scheduler.settle())
        pieces = scheduler.pieces()
        if pieces:
            self._prefill(pieces)
            self._copy(scheduler.settle())
        if scheduler.decodes():
            self._decode()
        else:
            self._read()
        self.flush()
        self.counters.step_seconds += time.perf_counter() - began

    def _copy(self, copies: Sequence[Copy]) -> None:
        for copy in copies:
            self.runtime.copy_slot(*copy)

    def _spoil(self, slot: int) -> None:
        """Nothing of it may be used again, nor stay in the way of who uses the slot next."""
        self.table.truncate(slot, 0)
        self.runtime.clear_slot(slot)

    def _prefill(self, pieces: list[Piece]) -> None:
        rows = list[Row]()
        for run in adjacent(pieces):
            tokens = [np.asarray(piece.row.known[piece.start : piece.stop], np.int64) for piece in run]
            first, count = run[0].row.slot or 0, sum(map(len, tokens))
            self._meter.begin(tokens=count)
            starts = np.array([piece.start for piece in run], np.int64)
            with TURN.elsewhere():
                self.runtime.prefill(range(first, first + len(run)), tokens, starts)
            if self._waits:
                self._meter.end(self._meter.take())
            self.counters.prefills += 1
            self.counters.tokens_prefilled += count
            for slot, ids in enumerate(tokens, first):
                self.table.extend(slot, ids)
            self.counters.decode_steps_saved += sum(map(steps_saved, run))
            rows += [piece.row for piece in run if piece.stop == len(piece.row.known)]
        if rows:
            self._sample(rows)

    def _decode(self) -> None:
        rows, count = list(self.scheduler.rows), len(self.scheduler.rows)
        slots, positions = np.arange(count), self.table.valid[:count].copy()
        at, ahead = positions.tolist(), bool(self._unread)
        tokens = np.array(_fed(rows, at) if ahead else _known(rows, at), np.int64)
        self._meter.begin(rows=count)
        with TURN.elsewhere():
            self.runtime.decode(tokens, positions)
        self.counters.decode_steps += 1
        self.counters.decode_rows += count
        if ahead:
            self._read()
            slots = np.array([slot for slot, row in enumerate(rows) if row.slot is not None], np.int64)
            rows, at = [rows[slot] for slot in slots], [at[slot] for slot in slots]
            tokens = np.array(_known(rows, at), np.int64)
        self.table.extend_each(slots, tokens)
        if due := [row for row, i in zip(rows, at, strict=True) if i + 1 == len(row.known)]:
            self._sample(due)
        elif self._waits:
            self._meter.end(self._meter.take())

    def _sample(self, rows: list[Row]) -> None:
        """Ask for the next token of rows whose last one was just computed; look at those that want none."""
        looked = [row for row in rows if not row.prompt.draws]
        if looked:
            self._read()  # reading what is computed waits for everything before it
        drawing = [row for row in rows if row.prompt.draws] if looked else rows
        work = self._meter.take()
        if drawing:
            masked = constrained = [i for i, row in enumerate(drawing) if row.grammar is not None]
            if self._waits:
                # The best token of a greedy row is tried on its grammar first: a model that follows the
                # format needs no mask then, and the mask would have left that token the best.
                masked = [i for i in constrained if drawing[i].prompt.sampling.temperature > 0]
            self._unread.append(self._picker.pick(drawing, constrained, masked, work))
        if scored := [row for row in looked if not row.prompt.embed]:
            self._score(scored)
        if embedded := [row for row in looked if row.prompt.embed]:
            self._embed(embedded)
        if self._waits or looked:
            self._read()
        else:
            for row in drawing:
                row.drawn = row.slot
        if not drawing:
            self._meter.end(work)

    def _score(self, rows: list[Row]) -> None:
        """Rows that stand at a fork of their options: read it and go on."""
        for row, slot, logits in _at_slots(rows, self.runtime.logits):
            try:
                path = row.read_fork(logits)
            except GenerationFailed as error:
                self._answers.fail(row, error)
                continue
            self.table.truncate(slot, row.go_to(path or ()))
            if path is None:
                self.end(row, "stop")

    def _embed(self, rows: list[Row]) -> None:
        """Rows whose prompt is computed, and which want no more than its last hidden state."""
        for row, _, hidden in _at_slots(rows, self.runtime.hidden):
            try:
                row.take(hidden)
            except GenerationFailed as error:
                self._answers.fail(row, error)
                continue
            self.end(row, "stop")

    def _read(self) -> None:
        """Wait for what was drawn and hand it out."""
        unread, self._unread = self._unread, []
        for pick in unread:
            with TURN.elsewhere():
                drawn = pick.draws.wait()
            tokens: list[int] = drawn["token"].tolist()
            self._meter.end(pick.work)
            if not self._waits:
                for row in pick.rows:
                    row.drawn = None
            refused = self._refused(pick, tokens)
            unmasked = [i for i in refused if i not in pick.masked]
            if unmasked:
                every = range(len(unmasked))
                again = self._picker.pick([pick.rows[i] for i in unmasked], every, every)
                for i, token in zip(unmasked, again.draws.wait()["token"].tolist(), strict=True):
                    tokens[i] = token
                refused = [i for i in refused if i in pick.masked]
                refused += [unmasked[i] for i in self._refused(again, [tokens[i] for i in unmasked])]
            for i in refused:
                error = GrammarError("the grammar refuses a token that its own mask allows")
                self._answers.fail(pick.rows[i], error)
            self._answers.hand_out(pick.rows, tokens)

    def _refused(self, pick: Pick, tokens: list[int]) -> list[int]:
        """Rows, by index, whose grammar does not take their token."""
        return [i for i in pick.constrained if not self._answers.accepts(pick.rows[i], tokens[i])]


def _at_slots(
    rows: list[Row], read: Callable[[range], NDArray[np.float32]]
) -> list[tuple[Row, int, NDArray[np.float32]]]:
    """(row, slot, what `read` gives for that slot), read at once."""
    slots = [row.slot or 0 for row in rows]
    first = min(slots)
    with TURN.elsewhere():
        states = read(range(first, max(slots) + 1))
    return [(row, slot, states[slot - first]) for row, slot in zip(rows, slots, strict=True)]


def _known(rows: list[Row], at: list[int]) -> list[int]:
    """The token of each row at its place."""
    return [row.known[i] for row, i in zip(rows, at, strict=True)]


def _fed(rows: list[Row], at: list[int]) -> list[int]:
    """The same, or where it is that is not read yet: see Runtime.decode."""
    return [row.known[i] if row.drawn is None else -1 - row.drawn for row, i in zip(rows, at, strict=True)]
