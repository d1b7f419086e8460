"""Finds the record that ends the process again and again, without blaming those that only stood beside it.

After `max_attempts` openings in a row that did not end in order, the records that can have been in work are
taken one at a time, in the order of their offsets, alone in the whole process, and each time that is written
into the commit metadata before. A record that was alone twice when the process died is condemned. An orderly
end, even one that hands work back, counts as no death.
"""

from daemon.kafka.progress.offset_map import Counts
from daemon.kafka.progress.offsets import Mark
from daemon.kafka.settings import KafkaSettings
from schemas.errors import AutoGLMError, ErrorCode

_TRIALS = 2


class Condemned(AutoGLMError):
    """The daemon did not survive working on this request, several times; see its log and mend the request."""

    code = ErrorCode.RETRIES_EXHAUSTED


def reach(settings: KafkaSettings) -> int:
    """How many records of a partition can have been in work, waiting, or done and not committed yet."""
    return 3 * settings.max_in_flight_per_partition + settings.commit_max_records


class Suspects:
    """The counts of one opening of a partition."""

    def __init__(self, mark: Mark, before: Counts, fresh_from: int, settings: KafkaSettings) -> None:
        """`mark`, `before`: what was committed. `fresh_from`: the partition's end at this opening."""
        self._committed, self._before, self._fresh_from = mark.offset, before, fresh_from
        self._tried_before = before.trials
        self.counts = Counts(before.opening + 1, before.deaths + 1, before.trials)
        if mark.offset >= fresh_from:
            self.counts = Counts(1, 1)  # nothing is there that may have been worked on
        self._left = reach(settings) if before.deaths >= settings.max_attempts else 0

    def attempt(self, offset: int) -> int:
        """Of a record delivered now: this opening's number if it may have been worked on before, else 1."""
        return self.counts.opening if offset < self._fresh_from else 1

    def suspected(self, offset: int) -> bool:
        return self._left > 0 and offset < self._fresh_from

    def condemned(self, offset: int) -> bool:
        return self.suspected(offset) and offset == self._committed and self._before.trials >= _TRIALS

    def tries(self, offset: int) -> None:
        """`offset` is going to be worked on alone: to be committed first."""
        self._tried_before = self._before.trials if offset == self._committed else 0
        self.counts = self.counts._replace(trials=self._tried_before + 1)

    def finished(self, trial: bool, committed: int) -> None:
        """Something was answered; `trial`: it was one of the suspects. `committed`: all below is done."""
        self._tried_before = 0
        opening, deaths, _ = self.counts
        self._left -= self._left > 0 and trial
        if committed >= self._fresh_from:
            self._left = 0
            opening = 1  # whatever comes is new
        self.counts = Counts(opening, deaths if self._left else 1)

    def left_in_order(self) -> Counts:
        """To be committed when the partition is given up with work half done, but without a death."""
        return self.counts._replace(deaths=self.counts.deaths - 1, trials=self._tried_before)
