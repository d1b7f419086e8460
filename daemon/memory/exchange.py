"""One request and what was answered, as a conversation remembers them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Exchange:
    """`partition` and `offset` name the request's record, `attempt` the delivery of it that was answered.

    `messages` are OpenAI's, the request's first; `tokens` is what they add to a prompt. `number` counts the
    conversation's exchanges from 0.
    """

    partition: int
    offset: int
    attempt: int
    messages: tuple[Message, ...]
    tokens: int
    number: int = 0

    @property
    def opens(self) -> bool:
        """Whether a prompt may begin with it: results of calls stay behind the calls."""
        return not self.messages or self.messages[0]["role"] != "tool"

    def same_request(self, other: "Exchange") -> bool:
        return (self.partition, self.offset) == (other.partition, other.offset)


_EXCHANGES = TypeAdapter(tuple[Exchange, ...])


def dump(exchanges: Sequence[Exchange]) -> bytes:
    return _EXCHANGES.dump_json(tuple(exchanges))


def load(value: bytes | None) -> tuple[Exchange, ...]:
    """Raises ValueError when `value` was written by something else."""
    return _EXCHANGES.validate_json(value) if value else ()


def put(exchanges: Sequence[Exchange], new: Exchange, most: int) -> tuple[Exchange, ...]:
    """`exchanges` with `new`, the last `most` of them.

    A request that was delivered again replaces what its earlier delivery left, in its place; what a former
    owner of the partition still writes changes nothing.
    """
    for index, known in enumerate(exchanges):
        if known.same_request(new):
            if known.attempt > new.attempt:
                return tuple(exchanges)
            return (*exchanges[:index], replace(new, number=known.number), *exchanges[index + 1 :])
    number = exchanges[-1].number + 1 if exchanges else 0
    return (*exchanges, replace(new, number=number))[-most:]


def without(exchanges: Sequence[Exchange], gone: Exchange) -> tuple[Exchange, ...]:
    """`exchanges` without what this delivery of a request, or an earlier one, left."""
    return tuple(e for e in exchanges if not (e.same_request(gone) and e.attempt <= gone.attempt))


def before(exchanges: Sequence[Exchange], partition: int, offset: int) -> tuple[Exchange, ...]:
    """What a request may see: not its own earlier delivery, and nothing that came after it."""
    return tuple(e for e in exchanges if e.partition != partition or e.offset < offset)


def window(exchanges: Sequence[Exchange], most: int, tokens: int) -> tuple[Exchange, ...]:
    """The last of them, at most `most` and at most `tokens` long together.

    Its beginning moves by a quarter of `most` at a time rather than with every exchange, as long as at least
    half of what fits is left: between two moves a prompt only grows at its end, and the model's KV of what
    was said before is used again.
    """
    first, left = len(exchanges), tokens
    while first and len(exchanges) - first < most and exchanges[first - 1].tokens <= left:
        first -= 1
        left -= exchanges[first].tokens
    fitting = [i for i in range(first, len(exchanges)) if exchanges[i].opens]
    if not fitting:
        return ()
    start, step = fitting[0], max(1, most // 4)
    if start:
        half = len(exchanges) - (len(exchanges) - first + 1) // 2
        start = next((i for i in fitting if i <= half and exchanges[i].number % step == 0), start)
    return tuple(exchanges[start:])
