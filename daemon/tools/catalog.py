"""Every tool there is, from wherever it comes, kept current while requests run."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from daemon.tools import declarations, grammar, plugins
from daemon.tools.errors import ToolDeclarationError
from daemon.tools.kinds.credentials import Credentials
from daemon.tools.kinds.declaration import Opened
from daemon.tools.part import Part, Source
from daemon.tools.registry import Registry
from daemon.tools.tool import Tool
from schemas.errors import AutoGLMError

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Refusal:
    """Why a source is not there, and when that was found (`time.monotonic`)."""

    source: Source
    problem: str
    when: float

    @property
    def over(self) -> bool:
        """Whether another attempt may succeed."""
        seconds = self.source.retry_seconds
        return seconds is not None and time.monotonic() >= self.when + seconds


@dataclass
class Catalog:
    """`fixed` are the tools of `tools.modules`, which stay. `on_change` gets every new registry.

    A registry never changes: a reload makes a new one, and what only the old one holds open is closed when
    its last lease ends. What is refused (broken, a bad schema, a second tool of the same name) is told in
    `problems`; an earlier version of it stays, and the rest goes on.
    """

    fixed: Registry
    declared_in: tuple[Path, ...] = ()
    plugins_in: tuple[Path, ...] = ()
    entry_points: bool = True
    on_change: Callable[[Registry], None] = lambda registry: None
    problems: list[str] = field(default_factory=list)
    registry: Registry = field(init=False)
    _parts: dict[str, Part] = field(default_factory=dict)
    _refused: dict[str, Refusal] = field(default_factory=dict)
    _closing: set[asyncio.Task[None]] = field(default_factory=set)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _stamp: str = ""

    def __post_init__(self) -> None:
        self.registry = self.fixed

    async def reload(self, *, everything: bool = False) -> list[str]:
        """Open what is new or changed, or `everything`, and swap the registry. Returns `problems`.

        Never raises for what an operator or a plug-in did wrong.
        """
        async with self._lock:
            self._stamp = await asyncio.to_thread(self._current_stamp)
            found, unreadable = await asyncio.to_thread(self._scan)
            parts: dict[str, Part] = {}
            problems = list(unreadable.values())
            for source, (part, problem) in zip(found, await self._open(found, everything), strict=True):
                if part is not None:
                    parts[source.key] = part
                    problems += part.opened.problems
                if problem is not None:
                    problems.append(problem)
            parts |= {key: part for key, part in self._parts.items() if part.source.within(unreadable)}
            self._refused = {source.key: self._refused[source.key] for source in found
                             if source.key in self._refused}  # fmt: skip
            names, told = self.registry.names(), self.problems
            self._swap(parts, problems)
            for problem in self.problems:
                if problem not in told:
                    log.error("tool_refused", problem=problem)
            if names != self.registry.names():
                log.info("tools", names=self.registry.names())
            return self.problems

    async def watch(self, seconds: float, asked: asyncio.Event) -> None:
        """Reload what has changed or may have come back, looking every `seconds` (0: never), and everything
        when `asked`: credentials and installed plug-ins as well."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds or None):
                    await asked.wait()
            if asked.is_set():
                asked.clear()
                await self.reload(everything=True)
                continue
            changed = any(part.opened.changed() for part in self._parts.values())
            retry = any(refusal.over for refusal in self._refused.values())
            if changed or retry or await asyncio.to_thread(self._current_stamp) != self._stamp:
                await self.reload()

    async def close(self) -> None:
        """Close what the tools hold open. No request may run any more."""
        async with self._lock:
            self._swap({}, [])
        await asyncio.gather(*self._closing)

    async def _open(
        self, sources: Sequence[Source], everything: bool
    ) -> list[tuple[Part | None, str | None]]:
        """`_part` of each: other processes are waited for side by side, plug-ins run one after another."""
        async with contextlib.AsyncExitStack() as unused:
            async with asyncio.TaskGroup() as group:
                elsewhere = {
                    source.key: group.create_task(self._part(source, everything, unused))
                    for source in sources
                    if source.retry_seconds is not None
                }
                parts = [
                    await (elsewhere.get(source.key) or self._part(source, everything, unused))
                    for source in sources
                ]
            unused.pop_all()
        return parts

    async def _part(
        self, source: Source, everything: bool, unused: contextlib.AsyncExitStack
    ) -> tuple[Part | None, str | None]:
        """The part of a source, and why it is not the current version of it. `unused` closes a new one."""
        earlier, refusal = self._parts.get(source.key), self._refused.get(source.key)
        if not everything:
            same = earlier is not None and earlier.source.fingerprint == source.fingerprint
            if earlier is not None and same and not earlier.opened.changed():
                return earlier, None
            if refusal and refusal.source.fingerprint == source.fingerprint and not refusal.over:
                return earlier, refusal.problem
        try:
            part = Part(source, await _offered(await source.open()))
        except Exception as error:  # of a plug-in, a library, the file system
            problem = str(error)
            if not isinstance(error, AutoGLMError):
                problem = f"{source.key}: cannot be opened: {type(error).__name__}: {error}; mend it there."
            self._refused[source.key] = Refusal(source, problem, time.monotonic())
            return earlier, problem
        unused.push_async_callback(_close, part)
        self._refused.pop(source.key, None)
        return part, None

    def _swap(self, parts: dict[str, Part], problems: list[str]) -> None:
        registry = Registry()
        for tool in [*self.fixed, *(tool for part in parts.values() for tool in part.opened.tools)]:
            try:
                registry.add(tool)
            except ToolDeclarationError as error:
                problems.append(str(error))
        before, held = self.registry, list(self._parts.values())
        for part in parts.values():
            part.snapshots += 1
        self._parts, self.registry, self.problems = parts, registry, problems
        self.on_change(registry)
        before.retire(lambda: self._release(held))

    def _release(self, parts: list[Part]) -> None:
        for part in parts:
            part.snapshots -= 1
            if not part.snapshots:
                task = asyncio.ensure_future(_close(part))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    def _scan(self) -> tuple[list[Source], dict[str, str]]:
        """The sources there are, and what is wrong with the files and folders that cannot be read."""
        found: list[Source] = []
        if self.entry_points:
            found += plugins.installed()
        credentials = Credentials()
        files, unreadable = self._declaration_files()
        for folder in self.plugins_in:
            try:
                found += list(plugins.in_folder(folder))
            except OSError as error:
                unreadable[str(folder)] = _unreadable(folder, error)
        for file in files:
            try:
                found += declarations.sources(file, credentials)
            except ToolDeclarationError as error:
                unreadable[str(file)] = str(error)
        # A file may be named twice: by itself and by its folder.
        return list({source.key: source for source in found}.values()), unreadable

    def _declaration_files(self) -> tuple[list[Path], dict[str, str]]:
        """The files there are, and what is wrong with the folders that cannot be listed."""
        found: list[Path] = []
        unreadable: dict[str, str] = {}
        for place in self.declared_in:
            try:
                found += declarations.files(place)
            except OSError as error:
                unreadable[str(place)] = _unreadable(place, error)
        return found, unreadable

    def _current_stamp(self) -> str:
        files, unreadable = self._declaration_files()
        return ";".join([plugins.stamp([*self.plugins_in, *files]), *unreadable.values()])


def _unreadable(place: Path, error: OSError) -> str:
    return f"{place}: cannot be read: {error}; mend it there."


async def _offered(opened: Opened) -> Opened:
    """Without the tools that no model could call. Raises ToolDeclarationError when none is left; what raises
    has closed it."""
    try:
        refused = await asyncio.to_thread(_refused, opened.tools)
        if not refused:
            return opened
        tools = tuple(tool for tool in opened.tools if tool.name not in refused)
        problems = (*opened.problems, *refused.values())
        if not tools:
            raise ToolDeclarationError("\n".join(problems))
    except BaseException:
        await opened.close()
        raise
    return replace(opened, tools=tools, problems=problems)


def _refused(tools: Iterable[Tool]) -> dict[str, str]:
    """Why not, by name."""
    refused = {}
    for tool in tools:
        try:
            grammar.check(tool)
        except ToolDeclarationError as error:
            refused[tool.name] = str(error)
    return refused


async def _close(part: Part) -> None:
    try:
        await part.opened.close()
    except Exception as error:  # nobody waits for it
        log.warning("tool_not_closed", source=part.source.key, exc_info=error)
