"""Plain text."""

from typing import Any, ClassVar

from daemon.agent.payloads.kind import string


class TextPayload:
    name: ClassVar[str] = "text"

    def text(self, data: Any) -> str:
        return string(data)
