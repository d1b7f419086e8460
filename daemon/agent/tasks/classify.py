"""`classify`: one of the request's labels, which a grammar enforces; the label is `structured`."""

from typing import ClassVar

from daemon.agent.chat import Chat, Conclusion
from daemon.agent.conversation import turns
from daemon.agent.job import Job
from daemon.agent.record import Record
from daemon.agent.toolset import Toolset
from daemon.errors import InvalidRequest
from daemon.tools.registry import Registry
from schemas.request import ChoiceFormat, Request


class Classify:
    name: ClassVar[str] = "classify"

    def validate(self, request: Request, registry: Registry) -> None:
        if not request.labels:
            raise InvalidRequest("task `classify` needs `labels`, the list to choose from.")
        if request.response_format is not None or request.tools:
            raise InvalidRequest(
                "task `classify` takes neither `response_format` nor `tools`; leave them out."
            )

    async def run(self, job: Job, record: Record, chat: Chat, registry: Registry) -> Conclusion:
        labels = job.request.labels or []
        system = f"Classify the user's text. Answer with one of these labels: {', '.join(labels)}"
        wanted = ChoiceFormat(type="choice", choice=labels)
        return await chat.run(job, record, turns(job.request, system), Toolset(choice="none"), wanted)
