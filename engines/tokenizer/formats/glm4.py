"""GLM-4 (9B-chat, 0414, Edge): `NAME\\n{json}` ended by `<|observation|>`; an answer is `\\n` and text.

Source: the chat templates of zai-org/glm-4-9b-chat-hf and zai-org/GLM-4-9B-0414. The templates know calls as
assistant messages with the tool's name in `metadata`, and results as messages of role `observation`.
Several calls in one turn are joined by `<|assistant|>`.
"""

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from engines.tokenizer.formats import json_text, lark
from engines.tokenizer.formats.arguments import argument_schema
from engines.tokenizer.formats.format import Answer, Call, Format, Message, Output, Tool
from engines.tokenizer.formats.shape import Shape
from engines.tokenizer.template import Template

_JOIN = "<|assistant|>"


class Glm4(Format):
    name: ClassVar[str] = "glm4"

    def adapt(
        self, messages: Sequence[Message], tools: list[Tool] | None, template: Template
    ) -> list[Message]:
        adapted = [turn for message in super().adapt(messages, tools, template) for turn in _turns(message)]
        if tools and "tools" not in template.variables:
            # The first templates of glm-4-9b-chat look for the tools in the system message.
            if adapted and adapted[0]["role"] == "system":
                adapted[0] = {**adapted[0], "tools": tools}
            else:
                adapted.insert(0, {"role": "system", "content": "", "tools": tools})
        return adapted

    def _rules(
        self, functions: list[Tool], choice: str, answer: Shape | None, parallel: bool
    ) -> tuple[list[str], list[str]]:
        rules, starts = [], []
        if choice in ("auto", "none"):
            starts.append("answer")
            text = answer.expression if answer else lark.ANY_TEXT
            rules += [f"answer: {lark.quote(chr(10))} value{self._answer_end(answer)}", f"value: {text}"]
        if functions:
            starts.append("calls")
            more = f" ({self.marker(_JOIN)} call)*" if parallel else ""
            rules.append(f"calls: call{more}{self._end(self.call_ends)}")
            rules.append("call: " + " | ".join(f"call_{index}" for index in range(len(functions))))
        for index, function in enumerate(functions):
            schema = argument_schema(function, self.write_defaults)
            rules.append(f"call_{index}: {lark.quote(function['name'] + chr(10))} {lark.json_value(schema)}")
        return starts, rules

    def parse(self, text: str, tools: Sequence[Tool] = ()) -> Output:
        if text.startswith("\n"):
            return Answer(text[1:])
        calls: list[Call] = []
        rest = text
        while True:
            name, line_end, body = rest.partition("\n")
            try:
                arguments, end = json_text.raw_decode(body)
            except ValueError:
                return calls or Answer(text)
            if not line_end or not name.strip() or not isinstance(arguments, dict):
                return calls or Answer(text)
            calls.append(Call(name.strip(), arguments))
            rest = body[end:].strip().removeprefix(_JOIN)
            if not rest:
                return calls

    def answer(self, text: str) -> str:
        return text.removeprefix("\n")

    def visible(self, text: str) -> str:
        return text[1:] if text.startswith("\n") else ""


def _turns(message: Message) -> list[dict[str, Any]]:
    if message["role"] == "tool":
        return [{"role": "observation", "content": message.get("content", "")}]
    turns = []
    if message.get("content") or not message.get("tool_calls"):
        turns.append({key: value for key, value in message.items() if key != "tool_calls"})
    for call in message.get("tool_calls", []):
        function = call["function"]
        turns.append(
            {
                "role": "assistant",
                "metadata": function["name"],
                "content": json.dumps(arguments_of(function), ensure_ascii=False),
            }
        )
    return turns


def arguments_of(function: dict[str, Any]) -> Any:
    """The arguments of an OpenAI `tool_calls` entry as an object; what is no JSON stays the text it is."""
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            return json_text.loads(arguments)
        except ValueError:
            return arguments
    return arguments
