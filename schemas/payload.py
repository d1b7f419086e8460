"""Data to work on, beside or instead of a question."""

from typing import Any

from pydantic import Field

from schemas.strict import Strict


class Payload(Strict):
    type: str = Field(default="text", description="`text`, `json`, `xml`, `csv` or a registered kind.")
    data: Any = Field(description="A string in that format; for `json` any JSON value as well.")
