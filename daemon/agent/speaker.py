"""One turn of the model: messages in, an answer or calls out."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from daemon.agent.constraints import Constraints
from daemon.agent.job import Job
from daemon.agent.record import Record
from daemon.errors import Cancelled, DeadlineExceeded
from engines.serve.prompt import Chunk, Completion, Prompt, Sampling
from engines.tokenizer import Answer, Output, Shape, Tokenizer

LONG_TEXT = 20_000  # characters; about 10 ms of rendering


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
    def __init__(self, machine: Machine, tokenizer: Tokenizer) -> None:
        self._machine, self.tokenizer = machine, tokenizer
        self._constraints = Constraints(tokenizer.format)

    async def say(
        self,
        job: Job,
        record: Record,
        messages: Sequence[dict[str, Any]],
        *,
        max_tokens: int,
        tools: tuple[dict[str, Any], ...] = (),
        choice: str = "auto",
        shape: Shape | None = None,
    ) -> Said:
        """Generate one turn, streaming its answer.

        Raises Cancelled, DeadlineExceeded, what the engine raises, and what grammar or template refuse.
        """
        wanted = job.request.sampling
        prompt = Prompt(
            token_ids=await self._render(messages, tools),
            max_tokens=max_tokens,
            sampling=Sampling(wanted.temperature, wanted.top_k, wanted.top_p, wanted.seed),
            grammar=self._constraints.grammar(tools, choice, shape),
            priority=job.priority,
            deadline=job.deadline,
        )
        submitted = time.monotonic()
        generation = self._machine.submit(prompt)
        try:
            completion = await job.wait_for(self._follow(job, generation))
        except BaseException:
            generation.cancel()
            raise
        record.generated(completion, submitted)
        if completion.finish_reason == "cancelled":
            raise Cancelled
        if completion.finish_reason == "expired":
            raise DeadlineExceeded
        turn = self.tokenizer.turn()
        turn.push(completion.token_ids)
        output = turn.output(tools)
        if not tools and isinstance(output, list):
            # Nothing was offered and no grammar kept the model from calling: it only reads like a call.
            output = Answer(self.tokenizer.decode(completion.token_ids))
        return Said(output, turn.visible, completion.finish_reason == "length")

    async def _render(
        self, messages: Sequence[dict[str, Any]], tools: tuple[dict[str, Any], ...]
    ) -> list[int]:
        # A long text takes its time; then the event loop must stay free for the others.
        if sum(len(message["content"]) for message in messages) > LONG_TEXT:
            return await asyncio.to_thread(self.tokenizer.render, messages, tools)
        return self.tokenizer.render(messages, tools)

    async def _follow(self, job: Job, generation: Generation) -> Completion:
        if job.request.stream and job.emit is not None:
            turn, shown = self.tokenizer.turn(), 0
            async for chunk in generation:
                turn.push(chunk.token_ids)
                visible = turn.visible
                if len(visible) > shown:
                    await job.stream(content=visible[shown:])
                    shown = len(visible)
        return await generation.result()
