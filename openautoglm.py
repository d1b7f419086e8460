"""The public API for tool authors.

    from typing import Literal

    from openautoglm import ToolContext, ToolError, register_tool

    @register_tool(description="Tell the status of an order.", read_only=True, timeout=2.0, retries=1)
    def order_status(order_id: str) -> dict[str, str]:
        order = ORDERS.get(order_id)
        if order is None:
            raise ToolError(f"order {order_id} not found")
        return {"order_id": order_id, "status": order.status}

    @register_tool
    async def create_ticket(subject: str, context: ToolContext, urgency: Literal["low", "high"]) -> str:
        '''Open a support ticket.'''
        return await helpdesk.open(subject, urgency, user=context.user_id, key=context.idempotency_key)

The type hints become the JSON schema that the model's calls are forced into, and its arguments arrive as
values of those types: str, numbers, bool, Literal, Optional, lists, dicts, dataclasses and pydantic models. A
parameter of type ToolContext is filled in by the daemon and not shown to the model. Put the module's import
path or file into `tools.modules` of the daemon's settings.

Such a module may also add tasks and kinds of payloads: `register_task(task)` takes any object with the
methods of `Task`, `register_payload(kind)` one with those of `PayloadKind`.
"""

from daemon.agent.payloads import PayloadKind, register_payload
from daemon.agent.tasks import Task, register_task
from daemon.tools.context import ToolContext
from daemon.tools.errors import CallInDoubt, ToolError
from daemon.tools.registry import Registry, register_tool
from daemon.tools.tool import Tool

__all__ = [
    "CallInDoubt",
    "PayloadKind",
    "Registry",
    "Task",
    "Tool",
    "ToolContext",
    "ToolError",
    "register_payload",
    "register_task",
    "register_tool",
]
