"""Turn what pydantic says of wrong settings into sentences that name place, key and remedy."""

import difflib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from daemon.origins import Origins

_LIST, _TABLE = '["a", "b"]', '{"key": "value"}'


def explain(error: ValidationError, model: type[BaseModel], origins: Origins) -> list[str]:
    """One sentence per wrong key of `error`, raised while `model` was filled from `origins`."""
    return [
        _sentence(tuple(str(part) for part in item["loc"]), item["type"], item["msg"], model, origins)
        for item in error.errors()
    ]


def unknown_variables(prefix: str, model: type[BaseModel]) -> list[str]:
    """Environment variables that start like ours and name nothing: pydantic-settings passes them over."""
    known = {name.upper() for name in model.model_fields} | {"CONFIG"}
    problems = []
    for variable in sorted(os.environ):
        if variable.startswith(prefix) and (first := variable[len(prefix) :].split("__")[0]) not in known:
            near = nearest(first, sorted(known))
            problems.append(
                f"environment {variable}: unknown setting; {near.replace('`', prefix, 1).rstrip('`')}"
            )
    return problems


def not_json(error: SettingsError, prefix: str, files: Sequence[Path]) -> str:
    """Which variable, or which of `files`, holds the list or table that could not be read; not its value,
    which may be secret."""
    wrong = error.__cause__
    if not isinstance(wrong, json.JSONDecodeError):
        return f"{error}."
    places = [
        f"environment {name}"
        for name, value in os.environ.items()
        if name.upper().startswith(prefix) and value == wrong.doc
    ]
    places += [str(file) for file in files if file.read_bytes().strip() == os.fsencode(wrong.doc)]
    named = " and ".join(places) or "settings"
    return f"{named}: not valid JSON: {wrong}; write lists as {_LIST} and tables as {_TABLE}."


def not_text(error: UnicodeDecodeError, files: Sequence[Path]) -> str:
    """Which of `files` is not UTF-8."""
    named = next((str(file) for file in files if file.read_bytes() == error.object), "settings")
    return f"{named}: not UTF-8: {error.reason} at byte {error.start}; save it as UTF-8."


def _sentence(loc: tuple[str, ...], kind: str, message: str, model: type[BaseModel], origins: Origins) -> str:
    place = origins.of(loc)
    if kind == "extra_forbidden":
        return f"{place}: unknown key; {nearest(loc[-1], keys_at(model, loc[:-1]))}"
    return f"{place}: {message[0].lower()}{message[1:]}."


def keys_at(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    """The keys of the table at `path` below `model`, as a file spells them; none when it is no table."""
    inside: Any = model
    for part in path:
        if _is_table(inside):
            field = inside.model_fields.get(part)
            inside = _table_of(field.annotation if field else None)
        else:  # dict[str, Table] or list[Table]: the part is a name or a number in it
            inside = _table_of(get_args(inside)[-1]) if get_args(inside) else None
    if not _is_table(inside):
        return []
    return sorted(field.alias or name for name, field in inside.model_fields.items())


def _is_table(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _table_of(annotation: Any) -> Any:
    """The member of a union that may have tables in it, such as `Table | None`."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    members = [kind for kind in get_args(annotation) if _is_table(kind) or get_origin(kind) in (dict, list)]
    return members[0] if members else None


def nearest(name: str, known: list[str]) -> str:
    """What to say of a name that is none of `known`."""
    if close := difflib.get_close_matches(name, known, n=1):
        return f"did you mean `{close[0]}`?"
    return f"known here: {', '.join(known)}." if known else "remove it."
