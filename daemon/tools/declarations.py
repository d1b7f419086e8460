"""Tools declared in TOML: `[tools.NAME]` tables in `*.toml` files."""

import asyncio
import json
import tomllib
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from pydantic import BaseModel, ValidationError

from daemon.explain import keys_at, nearest
from daemon.tools.errors import ToolDeclarationError
from daemon.tools.kinds.credentials import Credentials
from daemon.tools.kinds.declaration import Opened
from daemon.tools.part import Source

if TYPE_CHECKING:
    from daemon.tools.kinds.command import CommandDeclaration
    from daemon.tools.kinds.http import HttpDeclaration
    from daemon.tools.kinds.mcp import McpDeclaration
    from daemon.tools.kinds.sql import SqlDeclaration

Declared = Union["SqlDeclaration", "HttpDeclaration", "CommandDeclaration", "McpDeclaration"]
# Classes in modules of the kind's name, imported when the first tool needs them: what they stand on takes as
# long to import as the rest of the daemon, which a restart would wait for.
KINDS = {
    "sql": "SqlDeclaration",
    "http": "HttpDeclaration",
    "command": "CommandDeclaration",
    "mcp": "McpDeclaration",
}


def files(place: Path) -> list[Path]:
    """The declaration files of `place`, a file or a folder, in a fixed order. A folder need not exist.

    Raises OSError when it cannot be listed.
    """
    if place.suffix == ".toml":
        return [place]
    try:
        return sorted(path for path in place.iterdir() if path.suffix == ".toml")
    except FileNotFoundError:
        return []


def sources(file: Path, credentials: Credentials) -> Iterator[Source]:
    """The entries of one file. Raises ToolDeclarationError when the file as a whole is unreadable."""
    try:
        content = tomllib.loads(file.read_text())
    except FileNotFoundError:
        raise ToolDeclarationError(
            f"{file}: no such file; create it or take it out of `tools.declarations`."
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ToolDeclarationError(f"{file}: cannot be read: {error}; mend it there.") from None
    if strange := sorted(content.keys() - {"tools"}):
        hint = nearest(strange[0], ["tools"])
        raise ToolDeclarationError(f"{file}: `{strange[0]}`: unknown key; {hint} Write [tools.NAME].")
    tools = content.get("tools", {})
    if not isinstance(tools, dict):
        raise ToolDeclarationError(f"{file}: `tools` is no table; write [tools.NAME].")
    for name, table in tools.items():
        yield Source(
            key=f"{file}: tools.{name}",
            group=str(file),
            fingerprint=json.dumps(table, sort_keys=True, default=str),
            open=partial(_open, file, name, table, credentials),
            # What another process serves may be there later.
            retry_seconds=30.0 if isinstance(table, dict) and table.get("kind") == "mcp" else None,
        )


async def _open(file: Path, name: str, table: Any, credentials: Credentials) -> Opened:
    declared = await asyncio.to_thread(parse, file, name, table)  # may import much
    origin = f"{file}: tools.{name}"
    try:
        if declared.kind == "mcp":
            return await declared.open(name, origin, credentials)
        return declared.open(name, origin, credentials)
    except ValueError as error:
        raise ToolDeclarationError(f"{origin}: {error}.") from None


def parse(file: Path, name: str, table: Any) -> Declared:
    """Raises ToolDeclarationError with one line per wrong key: file, key, remedy."""
    place = f"{file}: `tools.{name}"
    if not isinstance(table, dict):
        raise ToolDeclarationError(f"{place}`: not a table; write [tools.{name}].")
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        hint = nearest(str(kind), list(KINDS)) if kind else f"use one of: {', '.join(KINDS)}."
        raise ToolDeclarationError(f"{place}.kind`: {f'no kind {kind!r}' if kind else 'missing'}; {hint}")
    model: type[Declared] = getattr(import_module(f"daemon.tools.kinds.{kind}"), KINDS[kind])
    try:
        return model.model_validate(table)
    except ValidationError as error:
        lines = [_sentence(place, model, item) for item in error.errors(include_url=False)]
    raise ToolDeclarationError("\n".join(lines))


def _sentence(place: str, model: type[BaseModel], error: Any) -> str:
    loc = [str(part) for part in error["loc"]]
    key = ".".join([place, *loc]) + "`"
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key; {nearest(loc[-1], keys_at(model, loc[:-1]))}"
    if error["type"] == "missing":
        return f"{key}: missing; add it."
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{key}: {message[0].lower()}{message[1:]}."
