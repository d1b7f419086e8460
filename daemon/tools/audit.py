"""A record of every executed tool call, for whoever has to answer for it."""

import asyncio
import json
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from daemon.tools.context import ToolContext
from daemon.tools.executor import Execution
from daemon.tools.tool import Tool
from schemas.event import ToolAudit

log = structlog.get_logger("audit")

MASK = "***"
# So many characters of a secret give it away: messages are cut.
_RECOGNIZED = 16
# Names that give a secret away, whoever declared the tool.
_SECRET = re.compile(
    r"passw(or)?d|passphrase|secret|token|api_?key|credential|authorization|cvv|\bpin\b", re.I
)


class Audit:
    """`instance` names the daemon. `run` publishes what `note` was told, in order, until it is cancelled or
    fails. What was not published then stays for `flush`, which may repeat the event that was on its way.
    """

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._waiting: deque[ToolAudit] = deque()
        self._noted = asyncio.Event()

    def note(self, tool: Tool, execution: Execution, context: ToolContext) -> None:
        """Never waits and never fails: also called while a request is being cancelled."""
        result = execution.result
        arguments = masked(execution.arguments, tool.parameters)
        error = result.get("error") if execution.outcome != "ok" and isinstance(result, dict) else None
        event = ToolAudit(
            instance=self._instance,
            time=datetime.now(UTC),
            request_id=context.request_id,
            record=context.record,
            topic=context.topic,
            tenant=context.tenant,
            user_id=context.user_id,
            call_id=context.idempotency_key,
            tool=tool.name,
            arguments=arguments,
            outcome=execution.outcome,
            error=_without(error, _hidden(execution.arguments, arguments)) if error else None,
            attempts=execution.attempts,
            duration_ms=round(execution.duration_ms, 3),
        )
        self._waiting.append(event)
        self._noted.set()
        log.debug("tool_call", **event.model_dump(exclude={"type", "instance", "time"}, exclude_none=True))

    async def run(self, publish: Callable[[ToolAudit], Awaitable[None]]) -> None:
        """Raises what `publish` raises."""
        while True:
            await self._noted.wait()
            self._noted.clear()
            await self.flush(publish)

    async def flush(self, publish: Callable[[ToolAudit], Awaitable[None]]) -> None:
        """Publish what is left; to be called when `run` has ended and no tool runs any more. Raises what
        `publish` raises.
        """
        while self._waiting:
            await publish(self._waiting[0])
            self._waiting.popleft()


def masked(arguments: dict[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """`arguments` with `***` for those that the schema calls `writeOnly` or of format `password`, or whose
    name says that they are secret. Where a value may be read in several ways, one that hides it is enough."""
    described = _readings([schema], schema)
    return {
        name: _masked(name, value, _members(described, name), schema) for name, value in arguments.items()
    }


def _masked(name: str, value: Any, schemas: Iterable[Any], root: Mapping[str, Any]) -> Any:
    described = _readings(schemas, root)
    if _SECRET.search(name) or any(_hides(schema) for schema in described):
        return MASK
    if isinstance(value, dict):
        return {key: _masked(key, item, _members(described, key), root) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked("", item, _items(described, index), root) for index, item in enumerate(value)]
    return value


def _hides(schema: Mapping[str, Any]) -> bool:
    return bool(schema.get("writeOnly")) or schema.get("format") == "password"


def _hidden(value: Any, shown: Any) -> Iterator[str]:
    """What masking `value` as `shown` has hidden, in the spellings that messages quote it in."""
    if shown == MASK and isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _hidden(inner, MASK)
    elif shown == MASK:
        yield from {str(value), repr(value).strip("'\""), json.dumps(value).strip('"')}
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _hidden(inner, shown[key])
    elif isinstance(value, list):
        for inner, masked_ in zip(value, shown, strict=True):
            yield from _hidden(inner, masked_)


def _without(error: str, hidden: Iterable[str]) -> str:
    """`error` with `***` for what is hidden; it ends where a long one of them begins."""
    for secret in sorted(filter(None, hidden), key=len, reverse=True):
        error = error.replace(secret, MASK)
        if len(secret) > _RECOGNIZED and (begun := error.find(secret[:_RECOGNIZED])) >= 0:
            error = error[:begun] + MASK
    return error


def _readings(schemas: Iterable[Any], root: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """`schemas`, and all that they refer to or are put together of."""
    waiting = list(schemas)
    found: list[Mapping[str, Any]] = []
    while waiting:
        schema = waiting.pop()
        if not isinstance(schema, Mapping) or any(schema is known for known in found):
            continue
        found.append(schema)
        if isinstance(reference := schema.get("$ref"), str):
            waiting.append(_definition(reference, root))
        for key in ("anyOf", "oneOf", "allOf"):
            waiting += schema.get(key, [])
    return found


def _definition(reference: str, root: Mapping[str, Any]) -> Any:
    """What a JSON pointer into `root` leads to, None if it leads nowhere or elsewhere."""
    place: Any = root if reference.startswith("#") else None
    for part in filter(None, reference[1:].split("/")):
        name = part.replace("~1", "/").replace("~0", "~")
        place = place.get(name) if isinstance(place, Mapping) else None
    return place


def _members(schemas: Iterable[Mapping[str, Any]], name: str) -> Iterator[Any]:
    """What `schemas` say of an object's member."""
    for schema in schemas:
        named = schema.get("properties", {})
        yield named[name] if name in named else schema.get("additionalProperties")
        for pattern, inner in schema.get("patternProperties", {}).items():
            if _may_match(pattern, name):
                yield inner


def _may_match(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error:  # it may be in the dialect of another language
        return True


def _items(schemas: Iterable[Mapping[str, Any]], index: int) -> Iterator[Any]:
    """What `schemas` say of an array's item."""
    for schema in schemas:
        yield schema.get("items")
        yield from schema.get("prefixItems", [])[index : index + 1]
