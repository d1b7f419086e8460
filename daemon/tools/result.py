"""What a tool returned, as JSON that fits into a prompt."""

import json
from collections.abc import Iterator
from typing import Any

import pydantic_core

from daemon.tools.errors import ResultRefused
from engines.tokenizer.formats.json_text import DEEPEST

RESULT_BYTES = 16_384
_BRIEF = 1000


def to_json(value: Any, limit: int = RESULT_BYTES) -> Any:
    """`value` as plain JSON data: models, dataclasses, dates and decimals included.

    NaN and infinities become null, halves of surrogate pairs U+FFFD. What is larger than `limit` bytes as
    JSON text becomes {"truncated": its beginning}. Raises ResultRefused for what has no JSON form.
    """
    if isinstance(value, Iterator):  # might never end
        raise ResultRefused(f"the tool returned a {type(value).__name__}; return a list instead.")
    try:
        data = pydantic_core.to_jsonable_python(
            value, inf_nan_mode="null", bytes_mode="utf8", exclude_none=False
        )
        text = _clean(json.dumps(_finite(data, DEEPEST), ensure_ascii=False, allow_nan=False))
    except Exception as error:  # of the value's own code as well: properties, serializers, generators
        raise ResultRefused(f"the tool returned something that is not JSON: {_reason(error)}") from error
    raw = text.encode()
    if len(raw) > limit:
        return {"truncated": raw[:limit].decode("utf-8", "ignore")}
    return json.loads(text)


def brief(text: str) -> str:
    """The beginning of a message, fit for UTF-8: what it quotes may be long."""
    return str(to_json(text[:_BRIEF]))


def to_text(data: Any) -> str:
    """JSON data on one line, as the model reads it."""
    return json.dumps(data, ensure_ascii=False)


def _reason(error: Exception) -> str:
    kind = type(error).__name__
    try:
        lines = str(error).splitlines()
    except Exception:  # of its own code, too
        return kind
    if not lines:
        return kind
    told = isinstance(error, pydantic_core.PydanticSerializationError | ValueError | TypeError)
    return lines[0] if told else f"{kind}: {lines[0]}"


def _finite(value: Any, levels: int) -> Any:
    """`inf_nan_mode` holds for text only: as Python data, pydantic lets NaN through.

    Raises ValueError when `value` has more than `levels` of objects and arrays: no reply would hold it.
    """
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict | list) and not levels:
        raise ValueError("it is nested too deeply")
    if isinstance(value, dict):
        return {key: _finite(item, levels - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item, levels - 1) for item in value]
    return value


def _clean(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
