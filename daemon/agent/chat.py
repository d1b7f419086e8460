"""The loop: intent → route → act → feed back, until the model answers."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from daemon.agent import conversation
from daemon.agent.constraints import shape_of, value_of
from daemon.agent.errors import UnsupportedSchema
from daemon.agent.job import Job
from daemon.agent.record import Record
from daemon.agent.speaker import Said, Speaker
from daemon.agent.toolset import Toolset
from daemon.errors import TooManyRounds
from daemon.tools.executor import Execution
from daemon.tools.journal import Decision
from engines.errors import PromptTooLong
from engines.tokenizer import Answer, Call
from schemas.message import Message
from schemas.reply import Intent
from schemas.request import ChoiceFormat, RegexFormat, ResponseFormat

FinishReason = Literal["stop", "length", "tool_calls"]
_ROOM = 64  # tokens of an answer that the past must not take


@dataclass(frozen=True)
class Conclusion:
    """What a job came to, in the words of the reply. `turns` were added between request and `message`."""

    message: Message
    finish_reason: FinishReason
    structured: Any = None
    turns: tuple[conversation.Turn, ...] = ()


@dataclass(frozen=True)
class Chat:
    """`max_rounds` bounds the rounds of calls, `max_tokens` the tokens of requests that name no bound."""

    speaker: Speaker
    max_rounds: int = 6
    max_tokens: int = 512

    async def run(
        self,
        job: Job,
        record: Record,
        messages: list[conversation.Turn],
        tools: Toolset,
        wanted: ResponseFormat | None,
        past: Sequence[conversation.Turn] = (),
    ) -> Conclusion:
        """Raises AutoGLMError of whatever kind ends the job early; `record` then says how far it came.

        `past` comes after the system messages, until there is no room for it any more.
        A job that was delivered before goes on from its last turn with side effects.
        """
        shape, choice = shape_of(wanted), tools.choice
        budget = job.request.max_tokens or self.max_tokens
        begun = len(messages)
        course = record.saga.resume()
        if course is not None:
            messages = [*messages, *(course.history or ())]
            calls = [Call(made.name, dict(made.arguments)) for made in course.calls]
            record.intent = record.intent or _intent(calls)
            job.check()
            messages += await self._turn(job, record, messages[begun:], tools, calls, course.round)
            choice = _after(choice)
        for round_ in range(course.round + 1 if course else 0, self.max_rounds + 1):
            job.check()
            said, past = await self._say(
                job,
                record,
                messages,
                past,
                max_tokens=budget - record.completion_tokens,
                tools=tools.schemas,
                choice=choice,
                shape=shape,
            )
            if said.cut:
                cut = _cut_short(said, tools, wanted, f"{job.key}/{round_}")
                return replace(cut, turns=tuple(messages[begun:]))
            if record.intent is None:
                record.intent = _intent(said.output)
            if isinstance(said.output, Answer):
                text = said.output.text
                message = Message(role="assistant", content=text)
                return Conclusion(message, "stop", _value(wanted, text), tuple(messages[begun:]))
            if round_ == self.max_rounds:
                break
            calls = said.output
            ids = [conversation.call_id(job.key, round_, index) for index in range(len(calls))]
            foreign = [pair for pair in zip(calls, ids, strict=True) if tools.tool(pair[0].name) is None]
            if foreign:
                asked = conversation.call_message([call for call, _ in foreign], [id_ for _, id_ in foreign])
                return Conclusion(asked, "tool_calls", turns=tuple(messages[begun:]))
            added = await self._turn(job, record, messages[begun:], tools, calls, round_)
            messages = [*messages, *added]
            if record.completion_tokens >= budget:
                empty = Message(role="assistant", content="")
                return Conclusion(empty, "length", turns=tuple(messages[begun:]))
            choice = _after(choice)
        raise TooManyRounds

    async def _say(
        self,
        job: Job,
        record: Record,
        messages: list[conversation.Turn],
        past: Sequence[conversation.Turn],
        *,
        max_tokens: int,
        **wanted: Any,
    ) -> tuple[Said, Sequence[conversation.Turn]]:
        """What the model says, and the past that it was shown: none where there is no room for it, unless it
        has the calls that the messages answer."""
        system, asked = conversation.split(messages)
        if past and not (asked and asked[0]["role"] == "tool"):
            shown, room = [*system, *past, *asked], min(max_tokens, _ROOM)
            try:
                said = await self.speaker.say(job, record, shown, max_tokens=max_tokens, room=room, **wanted)
                return said, past
            except PromptTooLong:
                past = ()
        shown = [*system, *past, *asked]
        return await self.speaker.say(job, record, shown, max_tokens=max_tokens, **wanted), past

    async def _turn(
        self,
        job: Job,
        record: Record,
        history: list[conversation.Turn],
        tools: Toolset,
        calls: list[Call],
        round_: int,
    ) -> list[conversation.Turn]:
        """Run the calls of one turn side by side. Returns the messages that the turn adds."""
        ids = [conversation.call_id(job.key, round_, index) for index in range(len(calls))]
        for call in calls:
            await job.stream(tool=call.name)
        planned = [
            (tools.tool(call.name), Decision(name=call.name, arguments=call.arguments)) for call in calls
        ]
        act = partial(record.saga.act, round_, history, planned, job.context(), job.cancelled)
        started = time.perf_counter()
        executions: list[Execution]
        try:
            if all(tool is not None and tool.read_only for tool, _ in planned):
                with job.cancelled.interrupting():
                    executions = await act()
            else:
                # A cancelled job waits for side effects that have begun: only what has ended can be undone.
                executions = await act()
        finally:
            record.acted((time.perf_counter() - started) * 1000)
        results = [
            conversation.result_turn(execution, id_) for execution, id_ in zip(executions, ids, strict=True)
        ]
        return [conversation.call_turn(calls, ids), *results]


def _after(choice: str) -> str:
    """What the caller forced has happened; now the model may answer."""
    return "auto" if choice != "none" else "none"


def _intent(output: Answer | list[Call]) -> Intent:
    if isinstance(output, Answer):
        return Intent(kind="answer")
    return Intent(kind="call_tool", tools=[call.name for call in output])


def _value(wanted: ResponseFormat | None, text: str) -> Any:
    """Raises UnsupportedSchema: a schema that refers to itself allows what no reply can hold."""
    try:
        return value_of(wanted, text)
    except ValueError as error:
        raise UnsupportedSchema(
            f"response_format: the answer is {error}; bound what the schema nests in itself."
        ) from error


def _cut_short(said: Said, tools: Toolset, wanted: ResponseFormat | None, key: str) -> Conclusion:
    """What there is when the tokens ran out. Calls are executed by nobody here: a value may lack its end."""
    if isinstance(said.output, list) and all(tools.tool(call.name) is None for call in said.output):
        ids = [conversation.call_id(key, 0, index) for index in range(len(said.output))]
        return Conclusion(conversation.call_message(said.output, ids), "length")
    try:
        value = None if isinstance(wanted, RegexFormat) else value_of(wanted, said.text)
    except ValueError:
        value = None
    if isinstance(wanted, ChoiceFormat) and value not in wanted.choice:
        value = None
    return Conclusion(Message(role="assistant", content=said.text), "length", value)
