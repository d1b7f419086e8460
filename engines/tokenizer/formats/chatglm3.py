"""ChatGLM3: a call is a line with the tool's name and a fenced Python call, ended by `<|observation|>`.

    NAME
    ```python
    tool_call(order_id="A1001", amount=5)
    ```

Source: the tool examples of THUDM/ChatGLM3 (tools_using_demo). An answer is `\\n` and text, as in GLM-4.
The grammar makes it write JSON values and the properties' own names, which need not be Python's: `from`,
`order-id`. So calls are read as that, not as Python.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from engines.tokenizer.formats import json_text, lark
from engines.tokenizer.formats.format import Answer, Call, Message, Output, Tool
from engines.tokenizer.formats.glm4 import Glm4, arguments_of
from engines.tokenizer.formats.properties import alternatives
from engines.tokenizer.formats.shape import Shape
from engines.tokenizer.template import Template

_FENCE, _FENCE_END = "```python\n", "\n```"
_CALL, _CALL_END, _COMMA = "tool_call(", ")", ", "
# JSON escapes that mean the same in Python, as whose code the model was shown strings; `\\u` does not where
# JSON writes surrogate pairs.
_ESCAPES = 'nrbtf\\"'


class ChatGlm3(Glm4):
    name: ClassVar[str] = "chatglm3"
    answer_ends: ClassVar[tuple[str, ...]] = ("<|user|>", "<|endoftext|>", "</s>")

    def adapt(
        self, messages: Sequence[Message], tools: list[Tool] | None, template: Template
    ) -> list[Message]:
        return [
            {**turn, "content": _written(turn["content"])} if turn.get("metadata") else turn
            for turn in super().adapt(messages, tools, template)
        ]

    def _rules(
        self, functions: list[Tool], choice: str, answer: Shape | None, parallel: bool
    ) -> tuple[list[str], list[str]]:
        """As the base says; the format knows one call per turn, so `parallel` changes nothing."""
        rules, starts = [], []
        if choice in ("auto", "none"):
            starts.append("answer")
            text = answer.expression if answer else lark.ANY_TEXT
            rules += [f"answer: {lark.quote(chr(10))} value{self._answer_end(answer)}", f"value: {text}"]
        for index, function in enumerate(functions):
            starts.append(f"call_{index}")
            rules += self._call_rules(index, function)
        return starts, rules

    def parse(self, text: str, tools: Sequence[Tool] = ()) -> Output:
        if text.startswith("\n"):
            return Answer(text[1:])
        name, _, body = text.partition("\n")
        code = body.strip().removeprefix("```python").removesuffix("```").strip()
        try:
            return [Call(name.strip(), _arguments(code))]
        except ValueError:
            return Answer(text)

    def _call_rules(self, index: int, function: dict[str, Any]) -> list[str]:
        """One rule per property and state (nothing written yet, something written): a comma only between."""
        end = f"{lark.quote(_CALL_END + _FENCE_END)}{self._end(self.call_ends)}"
        head = lark.quote(f"{function['name']}\n{_FENCE}{_CALL}")
        lists, rules = alternatives(function, self.write_defaults), []
        for way, properties in enumerate(lists):
            for place, each in enumerate(properties):
                here, after = f"{index}_{way}_{place}", f"{index}_{way}_{place + 1}"
                rules.append(f"argument_{here}: {lark.quote(each.name + '=')} value_{here}")
                rules.append(f"value_{here}: {lark.json_value(each.schema, json_allowed_escapes=_ESCAPES)}")
                for state, comma in (("first", ""), ("more", f"{lark.quote(_COMMA)} ")):
                    skip = "" if each.required else f" | {state}_{after}"
                    rules.append(f"{state}_{here}: {comma}argument_{here} more_{after}{skip}")
            last = f"{index}_{way}_{len(properties)}"
            rules += [f"first_{last}: {end}", f"more_{last}: {end}"]
        firsts = lark.alternatives([f"first_{index}_{way}_0" for way in range(len(lists))])
        return [f"call_{index}: {head} {firsts}", *rules]


def _arguments(code: str) -> dict[str, Any]:
    """Of `tool_call(NAME=JSON, NAME=JSON)`. Raises ValueError when it is not that."""
    if not code.startswith(_CALL):
        raise ValueError("no call")
    arguments: dict[str, Any] = {}
    place = len(_CALL)
    while code[place:] != _CALL_END:
        name, value, place = _argument(code, place)
        arguments[name] = value
        if code.startswith(_COMMA, place):
            place += len(_COMMA)
    return arguments


def _argument(code: str, start: int) -> tuple[str, Any, int]:
    """Name, value and end of the argument at `start`. Raises ValueError."""
    equals = start - 1
    while True:
        equals = code.index("=", equals + 1)  # a name may have one as well: then no value follows it
        try:
            value, size = json_text.raw_decode(code[equals + 1 :])
        except ValueError:
            continue
        end = equals + 1 + size
        if code.startswith(_COMMA, end) or code[end:] == _CALL_END:
            return code[start:equals], value, end


def _written(arguments: str) -> str:
    values = arguments_of({"arguments": arguments})
    pairs = values.items() if isinstance(values, dict) else []
    return f"{_FENCE}{_CALL}{_COMMA.join(f'{key}={value!r}' for key, value in pairs)}{_CALL_END}{_FENCE_END}"
