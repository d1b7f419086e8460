"""`chat`: a conversation, with tools."""

from dataclasses import dataclass
from typing import ClassVar

from daemon.agent.chat import Chat, Conclusion
from daemon.agent.conversation import turns
from daemon.agent.job import Job
from daemon.agent.record import Record
from daemon.agent.retrieval import shortlist
from daemon.agent.toolset import select
from daemon.tools.registry import Registry
from schemas.request import Request

_ASKED = 3  # user turns, from the last, that say which tools may be needed


@dataclass(frozen=True)
class ChatTask:
    """`system` opens conversations that bring no system message; the model sees `max_tools` tools at most."""

    name: ClassVar[str] = "chat"
    system: str | None = None
    max_tools: int = 16

    def validate(self, request: Request, registry: Registry) -> None:
        select(request, registry)

    async def run(self, job: Job, record: Record, chat: Chat, registry: Registry) -> Conclusion:
        request = job.request
        messages, tools = turns(request, self.system), select(request, registry)
        asked = [turn["content"] for turn in messages if turn["role"] == "user"][-_ASKED:]
        called = {call["function"]["name"] for turn in messages for call in turn.get("tool_calls", ())}
        tools = shortlist(tools, "\n".join(asked), self.max_tools, called)
        return await chat.run(job, record, messages, tools, request.response_format)
