"""JSON as models write it, read into values that every consumer of JSON can take.

A grammar keeps a model to JSON's syntax, which allows more than most programs bear: numbers beyond a double
become the largest double, halves of surrogate pairs become U+FFFD. What is nested deeper than `DEEPEST` is
refused: pydantic writes 254 levels and reads 200, a reply's own included, and other readers bear fewer.
"""

import json
import math
import sys
from typing import Any

DEEPEST = 128
_MAX_DIGITS = 300


def loads(text: str) -> Any:
    """Raises ValueError when `text` is not one JSON value, or nested too deeply."""
    value, end = raw_decode(text.strip())
    if end != len(text.strip()):
        raise ValueError("more than one JSON value")
    return value


def raw_decode(text: str) -> tuple[Any, int]:
    """The JSON value at the beginning of `text` and where it ends. Raises ValueError."""
    try:
        value, end = _decoder.raw_decode(text)
        return _clean(value, DEEPEST), end
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _float(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else math.copysign(sys.float_info.max, value)


def _int(text: str) -> int | float:
    return int(text) if len(text) <= _MAX_DIGITS else _float(text)


def _clean(value: Any, levels: int) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict | list) and not levels:
        raise ValueError("nested too deeply")
    if isinstance(value, dict):
        return {_clean(key, 0): _clean(item, levels - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item, levels - 1) for item in value]
    return value


def _constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


_decoder = json.JSONDecoder(parse_float=_float, parse_int=_int, parse_constant=_constant)
