"""What steps cost on this machine, measured while it runs, and the two choices that follow from it."""

_RISING = 1 / 8


class StepCosts:
    """Running estimates of decode and prefill times, in seconds.

    Other threads that hold the interpreter's lock and other processes on the core only ever add to what is
    measured, so estimates fall quickly and rise slowly: they tend to what the work itself takes.

    stall: how long one prefill may keep decoding rows waiting, by the cheapest tokens seen (behind a long
    context they cost more). chunk: most tokens prefilled in one step.
    """

    def __init__(self, stall: float = 0.1, chunk: int = 1024, smoothing: float = 0.2) -> None:
        self.stall, self.chunk, self._smoothing = stall, chunk, smoothing
        self._decode: dict[int, float] = {}  # rows to the nearest power of two → seconds of a step
        self._per_call = 0.0  # fixed seconds of a prefill
        self._per_token = 0.0  # further seconds for each of its tokens

    @property
    def decode_seconds(self) -> dict[int, float]:
        """Seconds of a decode step by the bit length of its number of rows; from any thread."""
        return self._decode.copy()

    def record_decode(self, rows: int, seconds: float) -> None:
        size = rows.bit_length()
        known = self._decode.get(size)
        self._decode[size] = seconds if known is None else self._mix(known, seconds)

    def record_prefill(self, tokens: int, seconds: float) -> None:
        """Short prefills tell the fixed part, long ones the part per token."""
        if not self._per_token:
            self._per_token = seconds / tokens
        elif tokens >= 32:
            self._per_token = self._mix(self._per_token, max(seconds - self._per_call, 0.0) / tokens)
        else:
            self._per_call = self._mix(self._per_call, max(seconds - tokens * self._per_token, 0.0))

    def record(self, tokens: int, rows: int, seconds: float) -> tuple[float, float]:
        """A prefill of `tokens`, then a decode step of `rows`; either may be 0. Returns their shares."""
        if not rows:
            self.record_prefill(tokens, seconds)
            return seconds, 0.0
        if not tokens:
            self.record_decode(rows, seconds)
            return 0.0, seconds
        step = self._decode.get(rows.bit_length())
        if step is None:  # nothing tells them apart yet
            return seconds, 0.0
        decode = min(step, seconds)
        self.record_prefill(tokens, seconds - decode)
        return seconds - decode, decode

    def tokens_per_second(self) -> float:
        """The most that decoding has brought, at whatever number of rows; 0 before the first step."""
        return max(((1 << size >> 1) / seconds for size, seconds in self.decode_seconds.items()), default=0.0)

    def prefill_budget(self, decoding: bool) -> int:
        """Tokens to prefill in one step: as many as fit into `stall` when others wait for them."""
        if not decoding or not self._per_token:
            return self.chunk
        return max(16, min(self.chunk, int((self.stall - self._per_call) / self._per_token)))

    def prefill_pays(self, tokens: int, rows: int) -> bool:
        """Whether one prefill of a row's `tokens` costs less than its share of as many decode steps.

        Riding along in steps that run anyway costs a row's share of the step; alone, the whole step.
        """
        step = self._decode.get(rows.bit_length())
        if step is None:
            return True
        return self._per_call + tokens * self._per_token < tokens * step / rows

    def _mix(self, old: float, new: float) -> float:
        return old + self._smoothing * (1.0 if new < old else _RISING) * (new - old)
