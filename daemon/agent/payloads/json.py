"""JSON: a value, or the text of one."""

import json
from typing import Any, ClassVar

from daemon.agent.payloads.kind import string
from engines.tokenizer.formats import json_text


class JsonPayload:
    """One line in the spelling that the models know."""

    name: ClassVar[str] = "json"

    def text(self, data: Any) -> str:
        value = json_text.loads(string(data)) if isinstance(data, str) else data
        return json.dumps(value, ensure_ascii=False)
