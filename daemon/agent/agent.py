"""Requests in, replies out: whatever happens, one reply."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import structlog

from daemon.agent.chat import Chat
from daemon.agent.job import Job
from daemon.agent.recall import Recall
from daemon.agent.record import Record
from daemon.agent.speaker import Speaker
from daemon.agent.tasks import Task, standard_tasks
from daemon.errors import InvalidRequest, UnknownTask, status_of
from daemon.tools.access import Access, Caller
from daemon.tools.executor import Executor
from daemon.tools.journal import Failure, Journal
from daemon.tools.registry import Registry
from daemon.tools.saga import Saga
from schemas.errors import AutoGLMError
from schemas.reply import Reply, Status

log = structlog.get_logger(__name__)


class Models(Protocol):
    """As daemon.routing.router.Router: who answers a job, for as long as the block lasts."""

    def choose(self, job: Job) -> AbstractContextManager[Speaker]: ...


class Agent:
    """`system` opens chats that bring no system message.

    `registry` may be set anew at any time: requests in work keep the tools they began with.
    """

    def __init__(
        self,
        models: Models,
        registry: Registry,
        *,
        executor: Executor | None = None,
        max_rounds: int = 6,
        max_tokens: int = 512,
        system: str | None = None,
        max_tools: int = 16,
        tasks: Mapping[str, Task] | None = None,
        access: Access | None = None,
        recall: Recall | None = None,
    ) -> None:
        self.registry = registry
        self._access = access or Access()
        self.tasks = tasks if tasks is not None else standard_tasks(system, max_tools, recall)
        self._models, self._max_rounds, self._max_tokens = models, max_rounds, max_tokens
        self._executor = executor or Executor()
        self._recall = recall or Recall()

    async def run(self, job: Job) -> Reply:
        """The terminal reply, also for failures, expiry and `job.cancel()`: then what tools did is undone.

        Raises the AutoGLMError that ended it when the job may start over, as long as it is not its last try.
        Else raises only when the awaiting task itself is cancelled: then the generation is cancelled as well,
        and what tools did is left to the job's next delivery.
        """
        # The tools that there are now, whatever is reloaded meanwhile.
        with self.registry.lease() as registry:
            # What was done may be undone whoever may call the tool now.
            find = {tool.name: tool for tool in registry}.get
            saga = Saga(self._executor, Journal(job.key, job.notes, job.attempt), find)
            record = Record(job, saga)
            failure = saga.failure
            if failure is None:
                try:
                    caller = Caller(job.topic, job.tenant, job.request.user_id)
                    return await self._work(job, record, self._access.view(registry, caller))
                except AutoGLMError as error:
                    if job.may_start_over(error):
                        raise
                    failure = Failure(status=status_of(error, record.started), error=error.body())
                except Exception as error:
                    log.exception("request failed", id=job.id)
                    hidden = AutoGLMError(
                        f"{type(error).__name__} while working on the request; the daemon's log has more."
                    )
                    failure = Failure(status="error", error=hidden.body())
            await saga.undo(failure, job.context())
        await self._recall.forget(job)
        return self._reply(job, record, failure.status, error=failure.error)

    async def _work(self, job: Job, record: Record, registry: Registry) -> Reply:
        job.check()
        task = self._task(job, registry)
        with self._models.choose(job) as speaker:
            record.model = speaker.model
            chat = Chat(speaker, self._max_rounds, self._max_tokens)
            conclusion = await task.run(job, record, chat, registry)
        return self._reply(
            job,
            record,
            "ok",
            message=conclusion.message,
            finish_reason=conclusion.finish_reason,
            structured=conclusion.structured,
        )

    def _task(self, job: Job, registry: Registry) -> Task:
        request = job.request
        task = self.tasks.get(request.task)
        if task is None:
            raise UnknownTask(f"there is no task {request.task!r}; use one of: {', '.join(self.tasks)}.")
        if request.texts is not None and not getattr(task, "takes_texts", False):
            raise InvalidRequest(f"task `{request.task}` takes no `texts`; send one request for each.")
        if request.memory and not getattr(task, "keeps_memory", False):
            raise InvalidRequest(f"task `{request.task}` keeps no conversation; leave `memory` out.")
        task.validate(request, registry)
        return task

    def _reply(self, job: Job, record: Record, status: Status, **more: object) -> Reply:
        return Reply.model_validate(
            {
                "id": job.id,
                "status": status,
                "task": job.request.task,
                "model": record.model,
                "intent": record.intent,
                "tools": record.saga.reports(),
                "usage": record.usage(),
                "timings": record.timings(),
                "attempt": job.attempt,
                **more,
            }
        )
