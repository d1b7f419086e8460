"""CSV with a header line (RFC 4180)."""

import csv
import io
from typing import Any, ClassVar

from daemon.agent.payloads.kind import string


class CsvPayload:
    """One line per record that names every column: what stands far below the header still says what it is."""

    name: ClassVar[str] = "csv"

    def text(self, data: Any) -> str:
        try:
            rows = [row for row in csv.reader(io.StringIO(string(data), newline=""), strict=True) if row]
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
