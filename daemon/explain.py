"""Turn what pydantic says of wrong settings into sentences that name place, key and remedy."""

import difflib
import os
from pathlib import Path

from pydantic import BaseModel, ValidationError


def explain(error: ValidationError, model: type[BaseModel], prefix: str, file: Path | None) -> list[str]:
    """One sentence per wrong key of `error`, raised while `model` was filled from `file` and `prefix`*."""
    return [
        _sentence(tuple(str(part) for part in item["loc"]), item["type"], item["msg"], model, prefix, file)
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


def _sentence(
    loc: tuple[str, ...], kind: str, message: str, model: type[BaseModel], prefix: str, file: Path | None
) -> str:
    key = ".".join(loc)
    variable = prefix + "__".join(loc).upper()
    place = f"environment {variable}" if variable in os.environ else f"{file or 'settings'}: `{key}`"
    if kind == "extra_forbidden":
        return f"{place}: unknown key; {nearest(loc[-1], _keys(model, loc[:-1]))}"
    return f"{place}: {message[0].lower()}{message[1:]}."


def _keys(model: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    for part in path:
        annotation = model.model_fields[part].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return sorted(model.model_fields)


def nearest(name: str, known: list[str]) -> str:
    """What to say of a name that is none of `known`."""
    if close := difflib.get_close_matches(name, known, n=1):
        return f"did you mean `{close[0]}`?"
    return f"known here: {', '.join(known)}." if known else "remove it."
