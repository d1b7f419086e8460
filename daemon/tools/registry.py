"""The tools by name, and the decorator that puts them there."""

import inspect
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from daemon.errors import UnknownTool
from daemon.tools.context import ToolContext
from daemon.tools.errors import ToolDeclarationError
from daemon.tools.signature import Signature
from daemon.tools.tool import Tool, ToolFunction, origin_of

F = TypeVar("F", bound=ToolFunction)


class Registry:
    """Tools by name, in the order of registration."""

    def __init__(self) -> None:
        self._tools: dict[str, Tool] = {}
        self._leases = 0
        self._released: Callable[[], None] | None = None

    def add(self, tool: Tool) -> None:
        """Raises ToolDeclarationError when the name is taken; the message names both places."""
        if (earlier := self._tools.get(tool.name)) is not None:
            raise ToolDeclarationError(
                f"tool {tool.name!r} is declared twice: {earlier.origin} and {tool.origin}; rename one."
            )
        self._tools[tool.name] = tool

    def get(self, name: str) -> Tool:
        """Raises UnknownTool."""
        try:
            return self._tools[name]
        except KeyError:
            known = ", ".join(self._tools) or "none is registered"
            raise UnknownTool(f"there is no tool {name!r} here; use one of: {known}.") from None

    def names(self) -> list[str]:
        return list(self._tools)

    def only(self, allowed: Callable[[Tool], bool]) -> "Registry":
        """A registry of the `allowed` tools, in the same order."""
        part = Registry()
        part._tools = {name: tool for name, tool in self._tools.items() if allowed(tool)}
        return part

    @contextmanager
    def lease(self) -> Iterator["Registry"]:
        """While this lasts, what the tools hold open stays open."""
        self._leases += 1
        try:
            yield self
        finally:
            self._leases -= 1
            if not self._leases and self._released is not None:
                self._released()

    def retire(self, released: Callable[[], None]) -> None:
        """To be called when nobody takes leases any more; `released` is called when the last one ends."""
        self._released = released
        if not self._leases:
            released()

    def __contains__(self, name: str) -> bool:
        return name in self._tools

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    @contextmanager
    def collecting(self) -> Iterator["Registry"]:
        """While this lasts, `register_tool` registers here."""
        token = _current.set(self)
        try:
            yield self
        finally:
            _current.reset(token)


default_registry = Registry()
_current: ContextVar[Registry] = ContextVar("tool_registry", default=default_registry)
# Python runs a module once; this is how a later registry gets its tools all the same.
_by_module: dict[str, dict[str, Tool]] = {}


def current_registry() -> Registry:
    """Where `register_tool` registers now."""
    return _current.get()


def declared_in(module: str) -> list[Tool]:
    """The tools that functions of `module` and of the modules below it were made into."""
    return [
        tool
        for name, tools in _by_module.items()
        if name == module or name.startswith(f"{module}.")
        for tool in tools.values()
    ]


def register_tool(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    retries: int = 0,
    read_only: bool = False,
    idempotent: bool = False,
    compensate: Callable[..., Any] | None = None,
    reconcile: Callable[[dict[str, Any], ToolContext], Any] | None = None,
    scopes: Collection[str] = (),
    concurrency: int = 16,
    keywords: Collection[str] = (),
) -> Any:
    """Makes a typed function, sync or async, a tool of the daemon; the function itself stays as it is.

    Without `name` the function's name is used, without `description` the first paragraph of its docstring.
    See `daemon.tools.tool.Tool` for the rest. Raises ToolDeclarationError, also for a name that is taken.
    """

    def declare(function: F) -> F:
        origin = origin_of(function)
        paragraph = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
        tool = Tool(
            name=name or str(getattr(function, "__name__", "")),
            description=description or paragraph,
            function=function,
            signature=Signature(function, origin),
            origin=origin,
            timeout=timeout,
            retries=retries,
            read_only=read_only,
            idempotent=idempotent,
            compensate=compensate,
            reconcile=reconcile,
            scopes=frozenset(scopes),
            concurrency=concurrency,
            keywords=_texts(keywords),
        )
        _current.get().add(tool)
        _by_module.setdefault(function.__module__, {})[tool.name] = tool
        return function

    return declare if function is None else declare(function)


def _texts(keywords: Collection[str]) -> tuple[str, ...]:
    """One text is meant as one, not as its letters."""
    return (keywords,) if isinstance(keywords, str) else tuple(keywords)
