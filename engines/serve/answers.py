"""What becomes of drawn tokens: answers grow, end, and their callers hear of it. Engine's thread only."""

import time
from collections.abc import Callable

from engines.errors import GenerationFailed, GrammarError
from engines.serve.closing import Closing
from engines.serve.generation import Generation, notify
from engines.serve.prompt import FinishReason
from engines.serve.row import Row
from engines.serve.scheduler import Scheduler
from engines.serve.stats import Counters


class Answers:
    """Of a scheduler's rows; `forget` hears of every generation that ends, `spoil` of slots whose KV is no
    numbers any more."""

    def __init__(
        self,
        scheduler: Scheduler,
        counters: Counters,
        forget: Callable[[Generation], None],
        closing: Closing | None,
        spoil: Callable[[int], None],
    ) -> None:
        self._scheduler, self._counters = scheduler, counters
        self._forget, self._closing, self._spoil = forget, closing, spoil
        self._touched: list[Generation] = []

    def end(self, row: Row, reason: FinishReason, stop_token_id: int | None = None) -> None:
        """Finish a queued or running row."""
        self._leave(row)
        self._counters.finished[reason] += 1
        row.generation.finish(row.completion(reason, stop_token_id, time.monotonic()))

    def fail(self, row: Row, error: Exception) -> None:
        """Finish a row with an error."""
        if row.slot is not None and isinstance(error, GenerationFailed):
            self._spoil(row.slot)
        self._leave(row)
        self._counters.failed += 1
        row.generation.finish(error)

    def flush(self) -> None:
        """Let the callers know."""
        notify(self._touched)
        self._touched = []

    def accepts(self, row: Row, token: int) -> bool:
        """Whether the row's grammar takes `token`, or nobody needs to ask any more."""
        if row.slot is None or token < 0:
            return True
        assert row.grammar is not None
        try:
            return row.grammar.accept(token)
        except GrammarError as error:
            self.fail(row, error)
            return True

    def hand_out(self, rows: list[Row], tokens: list[int]) -> None:
        """Each row gets its token, which its grammar has accepted; rows that ended meanwhile need none."""
        now = time.monotonic()
        for row, token in zip(rows, tokens, strict=True):
            if row.slot is None:
                continue
            if token < 0:
                self.fail(row, GenerationFailed())
                continue
            if row.first_token is None:
                row.first_token = now
            if row.grammar is not None or token in row.stops or len(row.known) + 1 == row.full:
                self.append(row, [token])
                continue
            row.known.append(token)
            self._counters.tokens_generated += 1
            if row.generation.streaming:
                self._touched.append(row.generation)

    def append(self, row: Row, sampled: list[int]) -> bool:
        """The answer goes on with `sampled`, which its grammar has accepted, and what that then forces.

        True when the answer ends.
        """
        tokens, complete, cut = sampled, False, False
        if row.grammar is not None and row.stops.isdisjoint(sampled):
            try:
                forced = row.grammar.follow()
            except GrammarError as error:
                self.fail(row, error)
                return True
            tokens, complete = sampled + forced, row.grammar.complete
            if self._closing is not None:
                ending = self._closing.instead(row, tokens, complete)
                if ending is not None:
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
        self._counters.tokens_forced += forced
        self._counters.tokens_generated += appended
        if row.generation.streaming:
            self._touched.append(row.generation)

    def _leave(self, row: Row) -> None:
        if row.slot is not None:
            self._scheduler.end(row)
        else:
            self._scheduler.drop_queued(row)
        self._touched.append(row.generation)
        self._forget(row.generation)
