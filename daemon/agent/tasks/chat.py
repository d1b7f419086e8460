"""`chat`: a conversation, with tools and memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from daemon.agent.chat import Chat, Conclusion
from daemon.agent.conversation import Turn, split, turns
from daemon.agent.job import Job
from daemon.agent.recall import Recall
from daemon.agent.record import Record
from daemon.agent.retrieval import shortlist
from daemon.agent.toolset import check, select
from daemon.errors import InvalidRequest
from daemon.tools.registry import Registry
from schemas.request import Request

_ASKED = 3  # user turns, from the last, that say which tools may be needed


@dataclass(frozen=True)
class ChatTask:
    """`system` opens conversations that bring no system message; the model sees `max_tools` tools at most;
    `recall` knows what was said before.
    """

    name: ClassVar[str] = "chat"
    keeps_memory: ClassVar[bool] = True
    system: str | None = None
    max_tools: int = 16
    recall: Recall = field(default_factory=Recall)

    def validate(self, request: Request, registry: Registry) -> None:
        select(request, registry)

    async def run(self, job: Job, record: Record, chat: Chat, registry: Registry) -> Conclusion:
        place = self.recall.place(job)
        system, asked = split(turns(job.request, self.system))
        if place is None:
            return await self._chat(job, record, chat, registry, [*system, *asked])
        past = await self.recall.past(job, place)
        if asked and asked[0]["role"] == "tool" and not past:
            raise InvalidRequest(
                "memory: the calls that the `tool` messages answer are forgotten; send the turns before, too."
            )
        conclusion = await self._chat(job, record, chat, registry, [*system, *asked], past)
        said = {"content": "", **conclusion.message.model_dump(exclude_none=True)}
        await self.recall.keep(place, [*asked, *conclusion.turns, said], chat.speaker.tokenizer)
        return conclusion

    async def _chat(
        self,
        job: Job,
        record: Record,
        chat: Chat,
        registry: Registry,
        messages: list[Turn],
        past: Sequence[Turn] = (),
    ) -> Conclusion:
        request = job.request
        tools = select(request, registry)
        await check(tools)
        whole = [*past, *messages]
        asked = [turn["content"] for turn in whole if turn["role"] == "user"][-_ASKED:]
        called = {call["function"]["name"] for turn in whole for call in turn.get("tool_calls", ())}
        tools = shortlist(tools, "\n".join(asked), self.max_tools, called)
        return await chat.run(job, record, messages, tools, request.response_format, past)
