"""The kinds of requests by name."""

from collections.abc import Mapping

from daemon.agent.tasks.chat import ChatTask
from daemon.agent.tasks.classify import Classify
from daemon.agent.tasks.extract import Extract
from daemon.agent.tasks.task import Task

__all__ = ["Task", "standard_tasks"]


def standard_tasks(system: str | None = None) -> Mapping[str, Task]:
    """`system` is the system message of chats that bring none."""
    tasks: tuple[Task, ...] = (ChatTask(system), Classify(), Extract())
    return {task.name: task for task in tasks}
