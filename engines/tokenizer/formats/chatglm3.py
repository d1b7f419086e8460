"""ChatGLM3: a call is a line with the tool's name and a fenced Python call, ended by `<|observation|>`.

    NAME
    ```python
    tool_call(order_id="A1001", amount=5)
    ```

Source: the tool examples of THUDM/ChatGLM3 (tools_using_demo). An answer is `\\n` and text, as in GLM-4.
"""

import ast
from collections.abc import Sequence
from typing import Any, ClassVar

from engines.tokenizer.formats import lark
from engines.tokenizer.formats.arguments import argument_schema, property_schemas
from engines.tokenizer.formats.format import Answer, Call, Message, Output, Tool
from engines.tokenizer.formats.glm4 import Glm4, arguments_of
from engines.tokenizer.formats.shape import Shape
from engines.tokenizer.template import Template

_FENCE, _FENCE_END = "```python\n", "\n```"
# JSON escapes that mean the same in Python; `\\u` does not where JSON writes surrogate pairs.
_ESCAPES = 'nrbtf\\"'
_JSON_NAMES = {"true": True, "false": False, "null": None}


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
            call = ast.parse(code, mode="eval").body
            if not isinstance(call, ast.Call) or call.args:
                return Answer(text)
            arguments = {keyword.arg: _literal(keyword.value) for keyword in call.keywords if keyword.arg}
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return Answer(text)
        return [Call(name.strip(), arguments)]

    def _call_rules(self, index: int, function: dict[str, Any]) -> list[str]:
        """One rule per property and state (nothing written yet, something written): a comma only between."""
        properties = property_schemas(argument_schema(function, self.write_defaults))
        end = f"{lark.quote(')' + _FENCE_END)}{self._end(self.call_ends)}"
        head = lark.quote(f"{function['name']}\n{_FENCE}tool_call(")
        rules = [f"call_{index}: {head} first_{index}_0"]
        for place, (name, schema, required) in enumerate(properties):
            rules.append(f"argument_{index}_{place}: {lark.quote(name + '=')} value_{index}_{place}")
            rules.append(f"value_{index}_{place}: {lark.json_value(schema, json_allowed_escapes=_ESCAPES)}")
            here, after = f"{index}_{place}", f"{index}_{place + 1}"
            for state, comma in (("first", ""), ("more", '", " ')):
                skip = "" if required else f" | {state}_{after}"
                rules.append(f"{state}_{here}: {comma}argument_{here} more_{after}{skip}")
        last = f"{index}_{len(properties)}"
        return [*rules, f"first_{last}: {end}", f"more_{last}: {end}"]


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id in _JSON_NAMES:
        return _JSON_NAMES[node.id]
    if isinstance(node, ast.List):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {
            ast.literal_eval(key): _literal(value)
            for key, value in zip(node.keys, node.values, strict=True)
            if key is not None
        }
    return ast.literal_eval(node)


def _written(arguments: str) -> str:
    values = arguments_of({"arguments": arguments})
    pairs = values.items() if isinstance(values, dict) else []
    return f"{_FENCE}tool_call({', '.join(f'{key}={value!r}' for key, value in pairs)}){_FENCE_END}"
