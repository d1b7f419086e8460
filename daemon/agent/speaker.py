"""One turn of the model: messages in, an answer or calls out."""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from daemon.agent.constraints import Constraints
from daemon.agent.job import Job
from daemon.agent.record import Record
from daemon.errors import Cancelled, DeadlineExceeded
from engines.serve.grammar import Grammar
from engines.serve.options import OptionTree
from engines.serve.prompt import Chunk, Completion, Prompt, Sampling
from engines.tokenizer import Output, Shape, Tokenizer

LONG_TEXT = 20_000  # characters; about 10 ms of rendering
LONG_SCHEMA = 4_000  # characters; about 10 ms of checking, up to a second for the longest
AT_ONCE = 128  # prompts of one request in the engine: enough for full batches, and others get their turn


class Generation(Protocol):
    """As engines.serve.generation.Generation."""

    def __aiter__(self) -> AsyncIterator[Chunk]: ...

    async def result(self) -> Completion: ...

    def cancel(self) -> None: ...


class Machine(Protocol):
    """As engines.serve.engine.Engine: all that the agent needs of it."""

    def submit(self, prompt: Prompt) -> Generation: ...


@dataclass(frozen=True)
class Said:
    """What the model said. `cut` when the token limit ended it."""

    output: Output
    text: str
    cut: bool


class Speaker:
    """`model` is the engine's name in replies."""

    def __init__(self, machine: Machine, tokenizer: Tokenizer, model: str) -> None:
        self._machine, self.tokenizer, self.model = machine, tokenizer, model
        self._constraints = Constraints(tokenizer.format)
        self._options = lru_cache(maxsize=64)(self._build_options)

    async def say(
        self,
        job: Job,
        record: Record,
        messages: Sequence[dict[str, Any]],
        *,
        max_tokens: int,
        room: int = 1,
        tools: tuple[dict[str, Any], ...] = (),
        choice: str = "auto",
        shape: Shape | None = None,
    ) -> Said:
        """Generate one turn, streaming its answer. `room`: so many tokens of it must fit.

        Raises Cancelled, DeadlineExceeded, what the engine raises, and what grammar or template refuse.
        """
        wanted = job.request.sampling
        parallel = job.request.parallel_tool_calls
        if parallel is None:
            parallel = self.tokenizer.format.parallel_calls
        prompt = Prompt(
            token_ids=await self._render(messages, tools),
            max_tokens=max_tokens,
            room=room,
            sampling=Sampling(**wanted.model_dump()),
            grammar=await self._grammar(tools, choice, shape, parallel),
            priority=job.priority,
            deadline=job.deadline,
        )
        submitted = time.monotonic()
        generation = self._machine.submit(prompt)
        try:
            with job.cancelled.interrupting():
                completion, shown = await self._follow(job, generation, bool(tools))
        except BaseException:
            generation.cancel()
            raise
        record.generated(completion, submitted)
        _check(completion)
        # Where nothing was offered, no grammar kept the model from calling: it only reads like a call.
        turn = self.tokenizer.turn(calls=bool(tools))
        turn.push(completion.token_ids)
        output, text = turn.output(tools), turn.visible
        if len(text) > shown:  # a character that was cut off
            await job.stream(content=text[shown:])
        return Said(output, text, completion.finish_reason == "length")

    async def weigh(
        self,
        job: Job,
        record: Record,
        conversations: Iterable[Sequence[dict[str, Any]]],
        labels: Sequence[str],
    ) -> list[list[float]]:
        """How likely the model, held to `labels`, is to write each, for each conversation.

        One prefill each; nothing is generated. Raises what `say` raises.
        """
        options = self._options(tuple(labels))
        completions = await self._prefill(job, record, conversations, _check, options=options)
        return [[math.exp(logprob) for logprob in completion.logprobs] for completion in completions]

    async def embed(
        self,
        job: Job,
        record: Record,
        conversations: Iterable[Sequence[dict[str, Any]]],
        allow: Callable[[int], None],
    ) -> NDArray[np.float32]:
        """The hidden state from which the answer to each would begin, [conversations, hidden]. `allow` may
        refuse it by raising once the number of dimensions is known.

        One prefill each; nothing is generated. Raises what `say` raises, and HiddenStateMissing.
        """

        def check(completion: Completion) -> None:
            _check(completion)
            allow(len(completion.hidden))

        completions = await self._prefill(job, record, conversations, check, embed=True)
        return np.array([completion.hidden for completion in completions], np.float32)

    async def _prefill(
        self,
        job: Job,
        record: Record,
        conversations: Iterable[Sequence[dict[str, Any]]],
        check: Callable[[Completion], None],
        **wanted: Any,
    ) -> list[Completion]:
        """`check` may end it after each of them."""
        submitted = time.monotonic()
        with job.cancelled.interrupting():
            completions = await self._prefilled(job, conversations, check, wanted)
        seconds = time.monotonic() - submitted
        record.generated(_together(completions, seconds), submitted)
        return completions

    async def _prefilled(
        self,
        job: Job,
        conversations: Iterable[Sequence[dict[str, Any]]],
        check: Callable[[Completion], None],
        wanted: dict[str, Any],
    ) -> list[Completion]:
        running, done = deque[Generation](), list[Completion]()

        async def next_() -> None:
            completion = await running[0].result()
            check(completion)
            done.append(completion)
            running.popleft()

        try:
            for messages in conversations:
                if len(running) == AT_ONCE:
                    await next_()
                prompt = Prompt(
                    token_ids=await self._render(messages, ()),
                    max_tokens=1,
                    **wanted,
                    priority=job.priority,
                    deadline=job.deadline,
                )
                running.append(self._machine.submit(prompt))
            while running:
                await next_()
        finally:
            for generation in running:
                generation.cancel()
        return done

    def _build_options(self, labels: tuple[str, ...]) -> OptionTree:
        return OptionTree([self.tokenizer.answer(label) for label in labels])

    async def _render(
        self, messages: Sequence[dict[str, Any]], tools: tuple[dict[str, Any], ...]
    ) -> list[int]:
        # A long text takes its time; then the event loop must stay free for the others.
        if sum(map(_length, messages)) + self._constraints.length(tools, None) > LONG_TEXT:
            return await asyncio.to_thread(self.tokenizer.render, messages, tools)
        return self.tokenizer.render(messages, tools)

    async def _grammar(
        self, tools: tuple[dict[str, Any], ...], choice: str, shape: Shape | None, parallel: bool
    ) -> Grammar | None:
        if self._constraints.length(tools, shape) > LONG_SCHEMA:
            return await asyncio.to_thread(self._constraints.grammar, tools, choice, shape, parallel)
        return self._constraints.grammar(tools, choice, shape, parallel)

    async def _follow(self, job: Job, generation: Generation, calls: bool) -> tuple[Completion, int]:
        """How it ended, and how many characters of it were streamed on the way."""
        shown = 0
        if job.request.stream and job.emit is not None:
            turn = self.tokenizer.turn(calls=calls)
            async for chunk in generation:
                turn.push(chunk.token_ids)
                visible = turn.visible
                if len(visible) > shown:
                    await job.stream(content=visible[shown:])
                    shown = len(visible)
        return await generation.result(), shown


def _length(message: dict[str, Any]) -> int:
    """Of what is rendered, in characters."""
    calls = message.get("tool_calls", ())
    return len(message["content"]) + sum(len(call["function"]["arguments"]) for call in calls)


def _check(completion: Completion) -> None:
    """Raises Cancelled or DeadlineExceeded when that is how it ended."""
    if completion.finish_reason == "cancelled":
        raise Cancelled
    if completion.finish_reason == "expired":
        raise DeadlineExceeded


def _together(completions: Sequence[Completion], seconds: float) -> Completion:
    """Generations that ran side by side, as one that took `seconds`."""
    first = completions[0]
    return replace(
        first,
        prompt_tokens=sum(completion.prompt_tokens for completion in completions),
        cached_tokens=sum(completion.cached_tokens for completion in completions),
        prefill_ms=max(0.0, seconds * 1e3 - first.queue_ms),
    )
