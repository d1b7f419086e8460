"""One step of the machine: admit, prefill, decode, sample, hand out. Runs in the engine's thread only."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from engines.errors import GenerationFailed, GrammarError
from engines.serve.closing import Closing
from engines.serve.costs import StepCosts
from engines.serve.generation import Generation, notify
from engines.serve.kernels.table import choice_table
from engines.serve.prompt import FinishReason
from engines.serve.row import Row
from engines.serve.runtime.contract import Runtime
from engines.serve.scheduler import Piece, Scheduler, adjacent, steps_saved
from engines.serve.slots import Copy, SlotTable
from engines.serve.stats import Counters


class Stepper:
    """Drives a runtime along a scheduler's plans; `forget` hears of every generation that ends."""

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
        self._bits = np.zeros((rows, -(-runtime.vocab_size // 32)), np.int32)
        self._bits_address, self._bits_size = self._bits.ctypes.data, self._bits.shape[1] * 4
        self._touched: list[Generation] = []
        self._forget, self._closing = forget, closing

    def add(self, row: Row) -> None:
        """Queue a row. One whose grammar leaves no choice at all ends here."""
        if row.grammar is not None and self._append(row, []):
            return
        self.scheduler.add(row)

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
        began = time.perf_counter()
        scheduler, now = self.scheduler, time.monotonic()
        for row in scheduler.overdue(now):
            self.end(row, "expired")
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
        self.flush()
        self.counters.step_seconds += time.perf_counter() - began

    def end(self, row: Row, reason: FinishReason, stop_token_id: int | None = None) -> None:
        """Finish a queued or running row."""
        self._leave(row)
        self.counters.finished[reason] += 1
        row.generation.finish(row.completion(reason, stop_token_id, time.monotonic()))

    def flush(self) -> None:
        """Let the callers know."""
        notify(self._touched)
        self._touched = []

    def _leave(self, row: Row) -> None:
        if row.slot is not None:
            self.scheduler.end(row)
        else:
            self.scheduler.drop_queued(row)
        self._touched.append(row.generation)
        self._forget(row.generation)

    def _fail(self, row: Row, error: Exception) -> None:
        self._leave(row)
        self.counters.failed += 1
        row.generation.finish(error)

    def _copy(self, copies: Sequence[Copy]) -> None:
        for copy in copies:
            self.runtime.copy_slot(*copy)

    def _prefill(self, pieces: list[Piece]) -> None:
        rows = list[Row]()
        for run in adjacent(pieces):
            tokens = [np.asarray(piece.row.known[piece.start : piece.stop], np.int64) for piece in run]
            first = run[0].row.slot or 0
            began = time.perf_counter()
            self.runtime.prefill(
                range(first, first + len(run)), tokens, np.array([piece.start for piece in run], np.int64)
            )
            self.runtime.finish()
            seconds = time.perf_counter() - began
            count = sum(map(len, tokens))
            self.costs.record_prefill(count, seconds)
            self.counters.prefills += 1
            self.counters.prefill_seconds += seconds
            self.counters.tokens_prefilled += count
            for slot, ids in enumerate(tokens, first):
                self.table.extend(slot, ids)
            self.counters.decode_steps_saved += sum(map(steps_saved, run))
            rows += [piece.row for piece in run if piece.stop == len(piece.row.known)]
        if rows:
            self._sample(rows)

    def _decode(self) -> None:
        rows, count = list(self.scheduler.rows), len(self.scheduler.rows)
        positions = self.table.valid[:count].copy()
        at = positions.tolist()
        tokens = np.array([row.known[i] for row, i in zip(rows, at, strict=True)], np.int64)
        began = time.perf_counter()
        self.runtime.decode(tokens, positions)
        due = [row for row, i in zip(rows, at, strict=True) if i + 1 == len(row.known)]
        if not due:
            self.runtime.finish()
        seconds = time.perf_counter() - began
        self.table.extend_each(tokens)
        if due:
            seconds += self._sample(due)
        self.costs.record_decode(count, seconds)
        self.counters.decode_steps += 1
        self.counters.decode_rows += count
        self.counters.decode_seconds += seconds

    def _sample(self, rows: list[Row]) -> float:
        """Give each row, whose last token was just computed, its next; returns the runtime's seconds.

        The best token of a greedy row is tried on its grammar first: a model that follows the format needs
        no mask then, and the mask would have left that token the best.
        """
        scoring = 0.0
        if scored := [row for row in rows if row.prompt.options is not None]:
            scoring = self._score(scored)
            rows = [row for row in rows if row.prompt.options is None]
            if not rows:
                return scoring
        constrained = [i for i, row in enumerate(rows) if row.grammar is not None]
        masked = self._mask(rows, [i for i in constrained if rows[i].prompt.sampling.temperature > 0])
        tokens, seconds = self._draw(rows, masked)
        seconds += scoring
        refused = [i for i in constrained if not self._accepts(rows[i], tokens[i])]
        greedy = [i for i in refused if rows[i].prompt.sampling.temperature == 0]
        if greedy:
            again = [rows[i] for i in greedy]
            drawn, more = self._draw(again, self._mask(again, range(len(again))))
            seconds += more
            for i, token in zip(greedy, drawn, strict=True):
                tokens[i] = token
                if self._accepts(rows[i], token):
                    refused.remove(i)
        for i in refused:
            self._fail(rows[i], GrammarError("the grammar refuses a token that its own mask allows"))
        self._hand_out(rows, tokens)
        return seconds

    def _score(self, rows: list[Row]) -> float:
        """Rows that stand at a fork of their options: read it and go on; returns the runtime's seconds."""
        slots = [row.slot or 0 for row in rows]
        began = time.perf_counter()
        logits = self.runtime.logits(range(min(slots), max(slots) + 1))
        seconds = time.perf_counter() - began
        for row, slot in zip(rows, slots, strict=True):
            try:
                path = row.read_fork(logits[slot - min(slots)])
            except GenerationFailed as error:
                self._fail(row, error)
                continue
            self.table.truncate(slot, row.go_to(path or ()))
            if path is None:
                self.end(row, "stop")
        return seconds

    def _hand_out(self, rows: list[Row], tokens: list[int]) -> None:
        now = time.monotonic()
        for row, token in zip(rows, tokens, strict=True):
            if row.slot is None:
                continue  # its grammar failed
            if token < 0:
                self._fail(row, GenerationFailed())
                continue
            if row.first_token is None:
                row.first_token = now
            if row.grammar is not None or token in row.stops or len(row.known) + 1 == row.full:
                self._append(row, [token])
                continue
            row.known.append(token)
            self.counters.tokens_generated += 1
            if row.generation.streaming:
                self._touched.append(row.generation)

    def _draw(self, rows: list[Row], masked: list[int]) -> tuple[list[int], float]:
        """A token per row, and the runtime's seconds; the n-th of `masked` has the n-th mask."""
        choices = [row.prompt.sampling for row in rows]
        seeds, positions = [row.seed for row in rows], [len(row.known) for row in rows]
        table = choice_table(choices, seeds, positions)
        # A row that its grammar failed is drawn for nothing.
        table["logits"] = table["slot"] = [row.slot or 0 for row in rows]
        table["allowed"][masked] = np.arange(len(masked))
        repeating = [i for i, row in enumerate(rows) if row.history is not None]
        table["seen"][repeating] = np.arange(len(repeating))
        seen = np.stack([rows[i].seen() for i in repeating]) if repeating else None
        began = time.perf_counter()
        draws = self.runtime.sample(table, self._bits[: len(masked)] if masked else None, seen).wait()
        tokens: list[int] = draws["token"].tolist()
        return tokens, time.perf_counter() - began

    def _mask(self, rows: list[Row], which: Sequence[int]) -> list[int]:
        """Fill the masks of rows `which`; returns those whose grammar did not fail."""
        began = time.perf_counter()
        masked = list[int]()
        for i in which:
            grammar = rows[i].grammar
            assert grammar is not None
            try:
                grammar.fill(self._bits_address + len(masked) * self._bits_size, self._bits_size)
                masked.append(i)
            except GrammarError as error:
                self._fail(rows[i], error)
        self.counters.masks += len(masked)
        self.counters.mask_seconds += time.perf_counter() - began
        return masked

    def _accepts(self, row: Row, token: int) -> bool:
        """Whether the row's grammar takes `token`, or nobody needs to ask any more."""
        if row.slot is None or token < 0:
            return True
        assert row.grammar is not None
        try:
            return row.grammar.accept(token)
        except GrammarError as error:
            self._fail(row, error)
            return True

    def _append(self, row: Row, sampled: list[int]) -> bool:
        """The answer goes on with `sampled`, which its grammar has accepted, and what that then forces.

        True when the answer ends.
        """
        tokens, complete, cut = sampled, False, False
        if row.grammar is not None and row.stops.isdisjoint(sampled):
            try:
                forced = row.grammar.follow()
            except GrammarError as error:
                self._fail(row, error)
                return True
            tokens, complete = sampled + forced, row.grammar.complete
            if self._closing is not None and (ending := self._closing.instead(row, tokens, complete)):
                tokens, cut = ending, True
        before = len(row.known)
        reason: FinishReason | None = None
        stop: int | None = None
        for token in tokens:
            if token in row.stops:
                reason, stop = "stop", token
                break
            if len(row.known) == row.full:
                break
            row.known.append(token)
        else:
            reason = "stop" if complete else None
        if reason is None and (cut or len(row.known) == row.full):
            reason = "length"
        self._count(row, len(row.known) - before, len(sampled))
        if reason is not None:
            self.end(row, reason, stop)
        return reason is not None

    def _count(self, row: Row, appended: int, sampled: int) -> None:
        forced = max(0, appended - sampled)
        row.forced_tokens += forced
        self.counters.tokens_forced += forced
        self.counters.tokens_generated += appended
        if row.generation.streaming:
            self._touched.append(row.generation)
