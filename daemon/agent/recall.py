"""Which chats continue a conversation that the daemon remembers, with what, and what is remembered of them.

A chat that brings earlier turns itself is complete: nothing is put before it, and nothing of it is kept.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from daemon.agent.conversation import Turn
from daemon.agent.job import Job
from daemon.agent.speaker import LONG_TEXT
from daemon.errors import InvalidRequest
from daemon.memory.errors import MemoryUnavailable
from daemon.memory.exchange import Exchange, before, dump, load, put, window, without
from daemon.memory.local import LocalStore
from daemon.memory.place import Place
from daemon.memory.settings import MemorySettings
from daemon.memory.store import Change, Store
from engines.tokenizer import Tokenizer
from schemas.request import Request

log = structlog.get_logger(__name__)

_TURN_TOKENS = 8  # of a turn beside its text: role, separators, ids of calls

Failed = Callable[[str], None]


def _ignore(operation: str) -> None:
    pass


def _nowhere() -> Store:
    return LocalStore(1, 1, 1.0)


@dataclass(frozen=True)
class Recall:
    """`failed` hears of what could not be done, by operation: read or write."""

    settings: MemorySettings = field(default_factory=lambda: MemorySettings(use="never"))
    store: Store = field(default_factory=_nowhere)
    failed: Failed = _ignore

    def place(self, job: Job) -> Place | None:
        """Where the job stands if it takes part in a conversation here. Raises InvalidRequest."""
        wanted, use = job.request.memory, self.settings.use
        complete = _is_complete(job.request)
        if wanted is None:
            return job.place if use == "always" and not complete else None
        if not wanted:
            return None
        if use == "never":
            raise InvalidRequest(
                "memory: this daemon keeps none (`memory.use`); send earlier turns yourself."
            )
        if complete:
            raise InvalidRequest(
                "memory: the request brings earlier turns itself; leave them out, or `memory`."
            )
        if job.place is None:
            raise InvalidRequest("memory: the record needs a key, which names the conversation.")
        return job.place

    async def past(self, job: Job, place: Place) -> list[Turn]:
        """What was said before, within the bounds. Raises MemoryUnavailable: the answer could be wrong."""
        try:
            with job.cancelled.interrupting():
                value = await self.store.read(place)
        except MemoryUnavailable:
            self.failed("read")
            raise
        earlier = before(_load(value, place), place.partition, place.offset)
        shown = window(earlier, self.settings.turns, self.settings.tokens)
        return [message for exchange in shown for message in exchange.messages]

    async def keep(self, place: Place, turns: Sequence[Turn], tokenizer: Tokenizer) -> None:
        """Remember a request and its answer. Raises nothing: the answer is right without it."""
        # A long text takes its time; then the event loop must stay free for the others.
        if sum(len(turn["content"]) for turn in turns) > LONG_TEXT:
            tokens = await asyncio.to_thread(_tokens, turns, tokenizer)
        else:
            tokens = _tokens(turns, tokenizer)
        # What is too long to be shown ever is kept as the gap that it leaves.
        shown = tuple(turns) if tokens <= self.settings.tokens else ()
        new = Exchange(place.partition, place.offset, place.attempt, shown, tokens)
        # Twice as many as are shown: a request that is delivered again sees what it saw the first time.
        most = 2 * self.settings.turns
        await self._write(place, lambda value: dump(put(_load(value, place), new, most)))

    async def forget(self, job: Job) -> None:
        """The job has failed: what its earlier deliveries left was never answered. Raises nothing."""
        place = job.place
        if place is None or place.attempt == 1 or self.settings.use == "never":
            return
        gone = Exchange(place.partition, place.offset, place.attempt, (), 0)

        def change(value: bytes | None) -> bytes:
            left = without(_load(value, place), gone)
            return dump(left) if left else b""

        await self._write(place, change)

    async def _write(self, place: Place, change: Change) -> None:
        try:
            await self.store.update(place, change)
        except MemoryUnavailable as error:
            self.failed("write")
            log.warning("conversation_not_remembered", conversation=place.conversation, error=str(error))


def _is_complete(request: Request) -> bool:
    """Whether it brings earlier turns: then they are all there are."""
    roles = [message.role for message in request.messages or ()]
    return bool(request.history) or "assistant" in roles or roles.count("user") > 1


def _load(value: bytes | None, place: Place) -> tuple[Exchange, ...]:
    try:
        return load(value)
    except ValueError as error:
        log.warning("conversation_unreadable", conversation=place.conversation, error=str(error))
        return ()


def _tokens(turns: Sequence[Turn], tokenizer: Tokenizer) -> int:
    """What they add to a prompt, or a little more."""
    texts = [turn["content"] for turn in turns]
    for call in (call for turn in turns for call in turn.get("tool_calls", ())):
        texts += [call["function"]["name"], call["function"]["arguments"]]
    return sum(len(tokenizer.encode(text)) + _TURN_TOKENS for text in texts)
