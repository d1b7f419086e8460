"""The loop: intent → route → act → feed back, until the model answers."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Literal

from daemon.agent import conversation
from daemon.agent.constraints import shape_of, value_of
from daemon.agent.job import Job
from daemon.agent.record import Record
from daemon.agent.speaker import Said, Speaker
from daemon.agent.toolset import Toolset
from daemon.errors import TooManyRounds
from daemon.tools.context import ToolContext
from daemon.tools.executor import Execution, Executor
from daemon.tools.tool import Tool
from engines.tokenizer import Answer, Call
from schemas.message import Message
from schemas.reply import Intent
from schemas.request import ChoiceFormat, RegexFormat, ResponseFormat

FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True)
class Conclusion:
    """What a job came to, in the words of the reply."""

    message: Message
    finish_reason: FinishReason
    structured: Any = None


@dataclass(frozen=True)
class Chat:
    """`max_rounds` bounds the rounds of calls, `max_tokens` the tokens of requests that name no bound."""

    speaker: Speaker
    executor: Executor
    max_rounds: int = 6
    max_tokens: int = 512

    async def run(
        self,
        job: Job,
        record: Record,
        messages: list[conversation.Turn],
        tools: Toolset,
        wanted: ResponseFormat | None,
    ) -> Conclusion:
        """Raises AutoGLMError of whatever kind ends the job early; `record` then says how far it came."""
        shape, choice = shape_of(wanted), tools.choice
        budget = job.request.max_tokens or self.max_tokens
        for round_ in range(self.max_rounds + 1):
            job.check()
            said = await self.speaker.say(
                job,
                record,
                messages,
                max_tokens=budget - record.completion_tokens,
                tools=tools.schemas,
                choice=choice,
                shape=shape,
            )
            if said.cut:
                return _cut_short(said, tools, wanted, f"{job.key}/{round_}")
            if record.intent is None:
                record.intent = _intent(said.output)
            if isinstance(said.output, Answer):
                text = said.output.text
                return Conclusion(Message(role="assistant", content=text), "stop", value_of(wanted, text))
            if round_ == self.max_rounds:
                break
            calls = said.output
            ids = [conversation.call_id(job.key, round_, index) for index in range(len(calls))]
            foreign = [pair for pair in zip(calls, ids, strict=True) if tools.tool(pair[0].name) is None]
            if foreign:
                asked = conversation.call_message([call for call, _ in foreign], [id_ for _, id_ in foreign])
                return Conclusion(asked, "tool_calls")
            messages = [*messages, conversation.call_turn(calls, ids)]
            for execution, id_ in zip(await self._act(job, record, tools, calls, ids), ids, strict=True):
                messages.append(conversation.result_turn(execution, id_))
            if record.completion_tokens >= budget:
                return Conclusion(Message(role="assistant", content=""), "length")
            # What the caller forced has happened; now the model may answer.
            choice = "auto" if choice != "none" else "none"
        raise TooManyRounds

    async def _act(
        self, job: Job, record: Record, tools: Toolset, calls: list[Call], ids: list[str]
    ) -> list[Execution]:
        """The calls of one turn, side by side; results in the order of the calls."""
        started = time.perf_counter()
        for call in calls:
            await job.stream(tool=call.name)
        executions = [Execution(call.name, call.arguments, None, "unknown", 0.0) for call in calls]
        try:
            executions = await job.wait_for(
                asyncio.gather(
                    *(
                        self._execute(job, tools.tool(call.name), call, id_)
                        for call, id_ in zip(calls, ids, strict=True)
                    )
                )
            )
        finally:
            # Also when the job is cancelled meanwhile: the calls may have had their effects.
            record.executed(executions, (time.perf_counter() - started) * 1000)
        return executions

    async def _execute(self, job: Job, tool: Tool | None, call: Call, id_: str) -> Execution:
        assert tool is not None  # calls of the caller's tools end the loop before
        context = ToolContext(
            request_id=job.id,
            user_id=job.request.user_id,
            tenant=job.tenant,
            topic=job.topic,
            record=job.key,
            idempotency_key=id_,
            deadline=job.deadline,
            headers=job.headers,
        )
        return await self.executor.run(tool, call.arguments, context)


def _intent(output: Answer | list[Call]) -> Intent:
    if isinstance(output, Answer):
        return Intent(kind="answer")
    return Intent(kind="call_tool", tools=[call.name for call in output])


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
