"""Tools that write down what they do to the world. A tool module of the daemons under test.

Each effect is one line, appended by one write: it survives the death of the process that wrote it.
"""

import asyncio
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

from openautoglm import ToolContext, register_tool

EFFECTS = Path(os.environ["FAULTS_EFFECTS"])
GATE = Path(os.environ["FAULTS_GATE"])
SECONDS = float(os.environ["FAULTS_TOOL_SECONDS"])


def note(tool: str, event: str, context: ToolContext) -> None:
    line = {"tool": tool, "event": event, "key": context.idempotency_key, "request": context.request_id}
    file = os.open(EFFECTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, json.dumps(line).encode() + b"\n")
    finally:
        os.close(file)


@register_tool(description="Look.", read_only=True, concurrency=64)
async def look(context: ToolContext) -> str:
    note("look", "began", context)
    await asyncio.sleep(SECONDS / 4)
    note("look", "acted", context)
    return "seen"


@register_tool(description="Book.", idempotent=True, concurrency=64)
async def book(size: Literal["small", "large"], context: ToolContext) -> str:
    note("book", "began", context)
    await asyncio.sleep(SECONDS)
    note("book", "acted", context)
    return size


@register_tool(description="Pack.", idempotent=True)
def pack(context: ToolContext) -> str:
    """In a thread, unlike the others."""
    note("pack", "began", context)
    time.sleep(SECONDS / 2)
    note("pack", "acted", context)
    return "packed"


@register_tool(description="Act and fail.", idempotent=True, retries=1)
async def act_and_fail(context: ToolContext) -> str:
    note("act_and_fail", "began", context)
    note("act_and_fail", "acted", context)
    raise RuntimeError("acted, and failed")


@register_tool(description="Wait for the gate.", read_only=True, timeout=120.0)
def wait_for_gate(context: ToolContext) -> str:
    note("wait_for_gate", "began", context)
    while not GATE.exists():
        time.sleep(0.05)
    note("wait_for_gate", "acted", context)
    return "open"


def has(event: str, key: str) -> bool:
    """Whether a tool has noted this under that key."""
    lines = EFFECTS.read_text().splitlines() if EFFECTS.exists() else []
    return any(line["event"] == event and line["key"] == key for line in map(json.loads, lines))


def took_place(arguments: object, context: ToolContext) -> str | None:
    return "done" if has("acted", context.idempotency_key) else None


@register_tool(description="Charge.", concurrency=64)
async def charge(context: ToolContext) -> str:
    """Promises nothing about repeated calls."""
    note("charge", "began", context)
    await asyncio.sleep(SECONDS)
    note("charge", "acted", context)
    return "charged"


@register_tool(description="Charge and fail.", concurrency=64)
async def charge_and_fail(context: ToolContext) -> str:
    note("charge_and_fail", "began", context)
    note("charge_and_fail", "acted", context)
    await asyncio.sleep(SECONDS)
    raise RuntimeError("acted, and failed")


@register_tool(description="Ship.", reconcile=took_place, concurrency=64)
async def ship(context: ToolContext) -> str:
    """The outside world can be asked about it, and does nothing twice only if it is asked."""
    note("ship", "began", context)
    await asyncio.sleep(SECONDS / 2)
    note("ship", "acted", context)
    await asyncio.sleep(SECONDS / 2)
    return "done"


@register_tool(description="Ship and fail.", reconcile=took_place, concurrency=64)
async def ship_and_fail(context: ToolContext) -> str:
    note("ship_and_fail", "began", context)
    note("ship_and_fail", "acted", context)
    await asyncio.sleep(SECONDS)
    raise RuntimeError("acted, and failed")


async def cancel(arguments: object, result: object, context: ToolContext) -> None:
    done = replace(context, idempotency_key=context.idempotency_key.removesuffix("/undo"))
    note("reserve", "undoing", done)
    await asyncio.sleep(SECONDS)
    note("reserve", "undone", done)


@register_tool(description="Reserve.", reconcile=took_place, compensate=cancel, concurrency=64)
async def reserve(context: ToolContext) -> str:
    """Takes until the request's deadline is over: it is always in vain, and to be undone."""
    note("reserve", "began", context)
    note("reserve", "acted", context)
    await asyncio.sleep(max(0.0, (context.deadline or 0.0) - time.monotonic()) + 0.02)
    return "done"
