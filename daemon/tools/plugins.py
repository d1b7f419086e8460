"""Plug-ins: Python that registers tools, found in folders or in installed packages."""

import asyncio
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

from daemon.threads import in_thread
from daemon.tools.errors import ToolModuleError
from daemon.tools.kinds.declaration import Opened
from daemon.tools.loading import execute, forget
from daemon.tools.part import Source
from daemon.tools.registry import Registry, current_registry, declared_in
from daemon.tools.tool import Tool
from schemas.errors import AutoGLMError

ENTRY_POINTS = "openautoglm.tools"
_LOAD_SECONDS = 30.0
_imported: set[str] = set()


def in_folder(folder: Path) -> Iterator[Source]:
    """A plug-in per `*.py` file and per package; names that begin with `_` or `.` are none.

    The folder need not exist. Raises OSError when it cannot be listed.
    """
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        file = path / "__init__.py" if path.is_dir() else path
        if path.name[0] in "._" or file.suffix != ".py" or not file.is_file():
            continue
        yield Source(
            key=str(path),
            group=str(path),
            fingerprint=stamp([path]),
            open=partial(_open, str(path), partial(execute, file)),
        )


def installed() -> Iterator[Source]:
    """A plug-in per entry point of the group `openautoglm.tools`: a module, or a function in it to call.

    Its fingerprint is that of the distribution, so that an upgrade is loaded and an uninstall unloads.
    """
    importlib.invalidate_caches()
    for point in sorted(importlib.metadata.entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        key = f"entry point {point.name} = {point.value}"
        record = point.dist.locate_file("") if point.dist else None
        files = [Path(str(file.locate())) for file in (point.dist.files or [])] if point.dist else []
        fingerprint = f"{record} {point.dist.version if point.dist else ''} {stamp(files)}"
        yield Source(key=key, group=key, fingerprint=fingerprint,
                     open=partial(_open, key, partial(_import, point, files)))  # fmt: skip


def stamp(paths: Iterable[Path]) -> str:
    """Changes when one of the files, or a Python file below one of the folders, does. What cannot be read, or
    goes away meanwhile, is left out."""
    found = []
    for path in paths:
        # Path.is_dir raises where a folder above it is closed.
        for file in _python_below(path) if os.path.isdir(path) else [path]:  # noqa: PTH112
            try:
                status = file.stat()
            except OSError:
                continue
            found.append(f"{file}:{status.st_mtime_ns}:{status.st_size}:{status.st_ino}")
    return ";".join(found)


def _python_below(folder: Path) -> list[Path]:
    # Not rglob: that raises when a folder goes away during the walk.
    return sorted(
        Path(place, name) for place, _, names in os.walk(folder) for name in names if name.endswith(".py")
    )


async def _open(key: str, load: Callable[[], object]) -> Opened:
    # Off the event loop, and not for ever: whatever a plug-in does while it is imported, the rest goes on.
    try:
        async with asyncio.timeout(_LOAD_SECONDS):
            return Opened(await in_thread(partial(_collect, key, load), "plug-in"))
    except TimeoutError:
        raise ToolModuleError(
            f"plug-in {key} was still being loaded after {_LOAD_SECONDS:g} s; mend it or take it out."
        ) from None


def _collect(key: str, load: Callable[[], object]) -> tuple[Tool, ...]:
    with Registry().collecting() as declared:
        try:
            load()
        except AutoGLMError:
            raise
        except (Exception, SystemExit) as error:  # whatever a plug-in does while it is imported
            raise ToolModuleError(
                f"plug-in {key} cannot be loaded: {type(error).__name__}: {error}; mend it or take it out."
            ) from error
    return tuple(declared)


def _import(point: importlib.metadata.EntryPoint, files: list[Path]) -> None:
    """Imports the module afresh if it was imported here before, with the rest of its distribution."""
    owned = {str(file) for file in files}
    earlier: dict[str, ModuleType] = {}
    if point.module in _imported:
        names = [
            name for name, module in list(sys.modules.items()) if getattr(module, "__file__", "") in owned
        ]
        for name in {point.module, *names}:
            earlier |= forget(name)
    known = point.module in sys.modules
    try:
        loaded = point.load()
        if callable(loaded):
            loaded()
    except BaseException:
        sys.modules.update(earlier)
        raise
    _imported.add(point.module)
    if known:  # someone imported it before, and it registered its tools then
        current = current_registry()
        for tool in declared_in(point.module):
            if tool.name not in current:
                current.add(tool)
