"""Typed access to config.json, so that every refusal names the key."""

import sys
from collections.abc import Mapping
from typing import Any

from engines.errors import CheckpointError, UnsupportedModel

_MISSING = object()
_SMALLEST, _LARGEST = sys.float_info.min, sys.float_info.max


class Fields:
    """A JSON object whose values are asked for by type; `where` names it in errors."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values, self._where = values, where

    def raw(self, key: str) -> Any:
        """The value, or None where it is null or missing."""
        return self._values.get(key)

    def size(self, key: str, default: int | None = None) -> int:
        """A positive integer."""
        value = self._values.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            raise self._wrong(key, "a positive integer")
        return value

    def count(self, key: str, default: int) -> int:
        """A positive integer, or 0."""
        value = self._values.get(key)
        value = default if value is None else value
        if not _is_count(value):
            raise self._wrong(key, "0 or a positive integer")
        return int(value)

    def number(self, key: str, default: float | None = None, *, signed: bool = False) -> float:
        """A finite number; more than 0 unless `signed`."""
        value = self._values.get(key)
        value = default if value is None else value
        least = -_LARGEST if signed else _SMALLEST
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= _LARGEST:
            raise self._wrong(key, f"a finite number{'' if signed else ' above 0'}")
        return float(value)

    def ids(self, key: str) -> tuple[int, ...]:
        """A token id or a list of them; null and missing give none."""
        value = self._values.get(key)
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if not all(map(_is_count, ids)):
            raise self._wrong(key, "a token id or a list of them")
        return tuple(ids)

    def each(self, key: str, length: int, *allowed: Any) -> list[Any]:
        """A list of so many values, each one of `allowed`."""
        value = self._values.get(key)
        if not isinstance(value, list) or len(value) != length or any(one not in allowed for one in value):
            raise self._wrong(key, f"a list of {length}, each {' or '.join(map(repr, allowed))}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self._values.get(key)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def only(self, key: str, *allowed: Any) -> None:
        """Refuse any value but those (null and missing count as the first)."""
        value = self._values.get(key)
        if value is not None and value not in allowed:
            choices = ", ".join(repr(choice) for choice in allowed)
            raise UnsupportedModel(f"{self._where}: {key} = {value!r} is not supported; supported: {choices}")

    def _wrong(self, key: str, wanted: str) -> CheckpointError:
        found = self._values.get(key, _MISSING)
        said = "is missing" if found is _MISSING else f"is {found!r}"
        return CheckpointError(f"{self._where}: {key} {said}; it must be {wanted}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
