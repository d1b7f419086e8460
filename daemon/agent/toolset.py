"""The tools that one request offers to the model."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from daemon.agent.speaker import LONG_SCHEMA
from daemon.errors import InvalidRequest
from daemon.tools.json_schema import problem
from daemon.tools.registry import Registry
from daemon.tools.tool import Tool
from schemas.message import NamedToolChoice
from schemas.request import Request


@dataclass(frozen=True)
class Toolset:
    """`schemas` are OpenAI function schemas in the order of the request, `server` those run here, by name.

    What is in `schemas` only is run by the caller. `choice` is auto, none, required or a tool's name.
    """

    schemas: tuple[dict[str, Any], ...] = ()
    server: tuple[tuple[str, Tool], ...] = ()
    choice: str = "auto"

    def tool(self, name: str) -> Tool | None:
        """The server tool of that name; None when the caller runs it."""
        return next((tool for known, tool in self.server if known == name), None)


def select(request: Request, registry: Registry) -> Toolset:
    """Raises UnknownTool for a name that nobody registered, InvalidRequest for contradictions."""
    schemas: dict[str, dict[str, Any]] = {}
    server: dict[str, Tool] = {}
    offered = request.tools if request.tools is not None else [tool.name for tool in registry]
    for entry in offered:
        if isinstance(entry, str):
            tool = registry.get(entry)
            name, schema = entry, tool.schema
            server[name] = tool
        else:
            name, schema = entry.function.name, entry.model_dump(exclude_none=True)
        if name in schemas:
            raise InvalidRequest(f"tools: {name!r} is there twice; keep one.")
        schemas[name] = schema
    choice = request.tool_choice
    named = choice.function.name if isinstance(choice, NamedToolChoice) else None
    if named is not None and named not in schemas:
        raise InvalidRequest(f"tool_choice: {named!r} is not among the request's tools; add it there.")
    if choice == "required" and not schemas:
        raise InvalidRequest("tool_choice: `required` needs at least one tool.")
    return Toolset(tuple(schemas.values()), tuple(server.items()), named or str(choice))


async def check(tools: Toolset) -> None:
    """Raises InvalidRequest for a schema of the caller's that is none."""
    functions = [schema["function"] for schema in tools.schemas]
    texts = {
        function["name"]: json.dumps(function["parameters"])
        for function in functions
        if tools.tool(function["name"]) is None
    }
    if sum(map(len, texts.values())) > LONG_SCHEMA:  # the event loop must stay free for the others
        await asyncio.to_thread(_check, texts)
    else:
        _check(texts)


def _check(texts: dict[str, str]) -> None:
    for name, text in texts.items():
        if wrong := problem(text, python_patterns=False):
            raise InvalidRequest(f"tools: {name}: `parameters`: {wrong}; mend it there.")
