"""The kinds of requests by name. A tool module adds its own with `openautoglm.register_task`."""

from collections import ChainMap
from collections.abc import Mapping
from typing import cast

from daemon.agent.plugins import Plugins
from daemon.agent.recall import Recall
from daemon.agent.tasks.chat import ChatTask
from daemon.agent.tasks.classify import Classify
from daemon.agent.tasks.embed import Embed
from daemon.agent.tasks.extract import Extract
from daemon.agent.tasks.summarize import Summarize
from daemon.agent.tasks.task import Task

__all__ = ["Task", "register_task", "standard_tasks"]

_registered = Plugins[Task]("task", ChatTask(), Classify(), Embed(), Extract(), Summarize())


def register_task(task: Task) -> Task:
    """Make a task known under its name. Raises ConfigurationError when the name is taken."""
    return _registered.add(task)


def standard_tasks(
    system: str | None = None, max_tools: int = 16, recall: Recall | None = None
) -> Mapping[str, Task]:
    """Those given and those registered, whenever that is; the arguments are ChatTask's."""
    chat: Task = ChatTask(system, max_tools, recall or Recall())
    return ChainMap({chat.name: chat}, cast(dict[str, Task], _registered))
