"""What the model writes after the generation prompt, while it comes and when it is complete."""

import codecs
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from engines.tokenizer.formats import Answer, Call, Format, Output
from engines.tokenizer.shield import Shield


class Turn:
    """Feed it token ids; read `visible` at any time and `output` at the end.

    A format's marks (`<tool_call>`) count only where the model wrote the token itself: the same characters
    spelled out in ordinary tokens are text. They are kept apart as in prompts, by the shield.
    """

    def __init__(
        self,
        format_: Format,
        shield: Shield,
        bytes_of: Callable[[int], bytes],
        literals: Mapping[int, str],
        calls: bool = True,
    ) -> None:
        self._format, self._shield, self._bytes_of, self._literals = format_, shield, bytes_of, literals
        self._calls = calls
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._text = ""

    def push(self, ids: Iterable[int]) -> None:
        """The next tokens, without the one that ends the turn."""
        parts, raw = [], bytearray()
        for index in ids:
            if (literal := self._literals.get(index)) is not None:
                parts += [self._raised(raw, final=True), literal]
                raw.clear()
            else:
                raw += self._bytes_of(index)
        self._text += "".join([*parts, self._raised(raw)])

    @property
    def visible(self) -> str:
        """What a reader may see already: the answer so far, nothing of a call."""
        visible = self._format.visible if self._calls else self._format.answer
        return self._shield.lower(visible(self._text))

    def output(self, tools: Sequence[dict[str, Any]] = ()) -> Output:
        """The complete turn; `tools` are those offered."""
        self._text += self._raised(b"", final=True)
        if not self._calls:
            return Answer(self.visible)
        output = self._format.parse(self._text, tools)
        if isinstance(output, Answer):
            return Answer(self._shield.lower(output.text))
        return [Call(self._shield.lower(call.name), self._lowered(call.arguments)) for call in output]

    def _raised(self, raw: bytes | bytearray, final: bool = False) -> str:
        return str(self._shield.raise_(self._decoder.decode(raw, final=final)))

    def _lowered(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._shield.lower(value)
        if isinstance(value, dict):
            return {self._lowered(key): self._lowered(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._lowered(item) for item in value]
        return value
