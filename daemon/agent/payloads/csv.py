"""CSV with a header line (RFC 4180)."""

import csv
import io
import re
from typing import Any, ClassVar

from daemon.agent.payloads.kind import string

_LINE_ENDS = re.compile(r"\s*[\r\n]\s*")


class CsvPayload:
    """One line per record that names every column: what stands far below the header still says what it is.

    A line end in a field becomes a space.
    """

    name: ClassVar[str] = "csv"

    def text(self, data: Any) -> str:
        try:
            lines = csv.reader(io.StringIO(string(data), newline=""), strict=True)
            rows = [[_LINE_ENDS.sub(" ", field) for field in row] for row in lines if row]
        except csv.Error as error:
            raise ValueError(str(error)) from error
        if not rows:
            raise ValueError("there is no header line")
        header = rows[0]
        for number, row in enumerate(rows[1:], 1):
            if len(row) != len(header):
                raise ValueError(f"record {number} has {len(row)} fields, the header {len(header)}")
        return "\n".join(
            ", ".join(f"{name}: {value}" for name, value in zip(header, row, strict=True)) for row in rows[1:]
        )
