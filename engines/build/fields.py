"""Typed access to config.json, so that every refusal names the key."""

from collections.abc import Mapping
from typing import Any

from engines.errors import CheckpointError, UnsupportedModel

_MISSING = object()


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

    def number(self, key: str, default: float | None = None) -> float:
        value = self._values.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, "a number")
        return float(value)

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
