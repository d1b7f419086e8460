"""`chat`: a conversation, with tools."""

from dataclasses import dataclass
from typing import ClassVar

from daemon.agent.chat import Chat, Conclusion
from daemon.agent.conversation import turns
from daemon.agent.job import Job
from daemon.agent.record import Record
from daemon.agent.toolset import select
from daemon.tools.registry import Registry
from schemas.request import Request


@dataclass(frozen=True)
class ChatTask:
    """`system` opens conversations that bring no system message."""

    name: ClassVar[str] = "chat"
    system: str | None = None

    def validate(self, request: Request, registry: Registry) -> None:
        select(request, registry)

    async def run(self, job: Job, record: Record, chat: Chat, registry: Registry) -> Conclusion:
        request = job.request
        return await chat.run(
            job, record, turns(request, self.system), select(request, registry), request.response_format
        )
