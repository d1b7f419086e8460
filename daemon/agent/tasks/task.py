"""What a kind of request is: a way to check it and a way to run it."""

from typing import ClassVar, Protocol

from daemon.agent.chat import Chat, Conclusion
from daemon.agent.job import Job
from daemon.agent.record import Record
from daemon.tools.registry import Registry
from schemas.request import Request


class Task(Protocol):
    """`validate` runs before anything costs time; `run` may raise any AutoGLMError and keeps `record`.

    A task that can work on `texts` says so with an attribute `takes_texts`, one that continues remembered
    conversations with `keeps_memory`; others never see such requests.
    """

    name: ClassVar[str]

    def validate(self, request: Request, registry: Registry) -> None: ...

    async def run(self, job: Job, record: Record, chat: Chat, registry: Registry) -> Conclusion: ...
