"""`summarize`: the user's text in a few sentences."""

from typing import ClassVar

from daemon.agent.chat import Chat, Conclusion
from daemon.agent.conversation import turns
from daemon.agent.job import Job
from daemon.agent.record import Record
from daemon.agent.toolset import Toolset
from daemon.errors import InvalidRequest
from daemon.tools.registry import Registry
from schemas.request import Request


class Summarize:
    name: ClassVar[str] = "summarize"

    def validate(self, request: Request, registry: Registry) -> None:
        if request.response_format is not None or request.tools:
            raise InvalidRequest(
                "task `summarize` takes neither `response_format` nor `tools`; leave them out."
            )

    async def run(self, job: Job, record: Record, chat: Chat, registry: Registry) -> Conclusion:
        system = "Summarize the user's text in a few sentences, in its own language."
        return await chat.run(job, record, turns(job.request, system), Toolset(choice="none"), None)
