"""GLM-4.5 and 4.6: calls in XML-like marks, several per turn, ended by `<|observation|>`.

    <tool_call>NAME
    <arg_key>KEY</arg_key>
    <arg_value>VALUE</arg_value>
    </tool_call>

Strings stand as they are, everything else as JSON; so does a string of which more is asked than an expression
of ours can hold bare text to. Source: chat_template.jinja of zai-org/GLM-4.5, which takes OpenAI messages but
wants the arguments of earlier calls as objects.
"""

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from engines.tokenizer.formats import json_text, lark
from engines.tokenizer.formats.arguments import options
from engines.tokenizer.formats.format import Answer, Call, Format, Message, Output, Tool, chosen
from engines.tokenizer.formats.glm4 import arguments_of
from engines.tokenizer.formats.properties import Property, alternatives
from engines.tokenizer.formats.shape import Shape
from engines.tokenizer.shield import Shield
from engines.tokenizer.template import Template

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_KEY, _KEY_END = "<arg_key>", "</arg_key>"
_VALUE, _VALUE_END = "<arg_value>", "</arg_value>"
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_CALL = re.compile(f"{_OPEN}(.*?){_CLOSE}", re.DOTALL)
_ARGUMENT = re.compile(rf"{_KEY}(.*?){_KEY_END}\s*{_VALUE}(.*?){_VALUE_END}", re.DOTALL)
# What llguidance can hold a JSON string to. Formats that nobody knows say nothing about the text.
_FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
)
_MORE = frozenset(("$ref", "allOf", "anyOf", "oneOf", "not", "if"))
_LIMITS = frozenset(("pattern", "minLength", "maxLength"))


class Glm45(Format):
    name: ClassVar[str] = "glm45"
    line_end: ClassVar[str] = "\n"
    parallel_calls: ClassVar[bool] = True

    def adapt(
        self, messages: Sequence[Message], tools: list[Tool] | None, template: Template
    ) -> list[Message]:
        adapted = super().adapt(messages, tools, template)
        for message in adapted:
            if calls := message.get("tool_calls"):
                message["tool_calls"] = [
                    {**call, "function": {**call["function"], "arguments": _object(call["function"])}}
                    for call in calls
                ]
                message.setdefault("content", "")
        return adapted

    def _rules(
        self, functions: list[Tool], choice: str, answer: Shape | None, parallel: bool
    ) -> tuple[list[str], list[str]]:
        rules, starts = [f"TEXT: {self._text_without(_OPEN)}"], []
        if choice in ("auto", "none"):
            starts.append("answer")
            lead = r"/\n?/ " if answer else ""
            text = answer.expression if answer else "TEXT"
            rules += [f"answer: {lead}value{self._answer_end(answer)}", f"value: {text}"]
        if functions:
            # Under `auto` the model may say a word before it calls.
            lead = "TEXT" if choice == "auto" and answer is None else r"/\n?/"
            more = r" (/\n?/ call)*" if parallel else ""
            starts.append("calls")
            rules.append(f"calls: {lead} call{more}{self._end(self.call_ends)}")
            rules.append("call: " + " | ".join(f"call_{index}" for index in range(len(functions))))
        for index, function in enumerate(functions):
            rules += self._call_rules(index, function)
        return starts, rules

    def parse(self, text: str, tools: Sequence[Tool] = ()) -> Output:
        text = _THOUGHT.sub("", text, count=1)
        functions = {function["name"]: function for function in chosen(tools, "auto")}
        calls = [self._call(match[1], functions) for match in _CALL.finditer(text)]
        return calls or Answer(self.answer(text))

    def answer(self, text: str) -> str:
        if text.lstrip().startswith("<think>"):
            if "</think>" not in text:
                return ""
            text = _THOUGHT.sub("", text, count=1)
        return text.removeprefix("\n")

    def visible(self, text: str) -> str:
        return self.answer(text).partition(_OPEN)[0]

    def _call_rules(self, index: int, function: dict[str, Any]) -> list[str]:
        end = lark.quote(self.line_end) if self.line_end else ""
        lists = alternatives(function, self.write_defaults)
        as_json = _written_as_json(lists)
        written, rules = [], []
        for way, properties in enumerate(lists):
            parts = []
            for place, each in enumerate(properties):
                rule, value = f"argument_{index}_{way}_{place}", f"VALUE_{index}_{way}_{place}"
                parts.append(rule if each.required else f"{rule}?")
                if each.name in as_json:
                    value = value.lower()
                    rules.append(f"{value}: {lark.json_value(each.schema)}")
                else:
                    rules.append(f"{value}: {self._string(each.schema)}")
                rules.append(
                    f"{rule}: {self.marker(_KEY)} {lark.quote(each.name)} {self.marker(_KEY_END)} {end} "
                    f"{self.marker(_VALUE)} {value} {self.marker(_VALUE_END)} {end}"
                )
            written.append(" ".join(parts) or '""')
        head = f"{self.marker(_OPEN)} {lark.quote(function['name'] + self.line_end)}"
        return [f"call_{index}: {head} {lark.alternatives(written)} {self.marker(_CLOSE)}", *rules]

    def _call(self, body: str, functions: dict[str, dict[str, Any]]) -> Call:
        name = body.partition(_KEY)[0].strip()
        lists = alternatives(functions[name], self.write_defaults) if name in functions else []
        as_json = _written_as_json(lists)
        # A turn's text is shielded, the names in schemas are not.
        pairs = (
            (match[1], match[2], Shield.lower(match[1]) in as_json) for match in _ARGUMENT.finditer(body)
        )
        return Call(name, {key: _read(value) if is_json else value for key, value, is_json in pairs})

    def _string(self, schema: dict[str, Any]) -> str:
        """A bare string."""
        if (allowed := options(schema)) is not None:
            return lark.alternatives([lark.quote(option) for option in allowed])
        parts = [self._text_without(_VALUE_END)]
        if "pattern" in schema:
            parts.append(lark.regex(lark.anchored(schema["pattern"])))
        if "minLength" in schema or "maxLength" in schema:
            parts.append(f"/(?s:.){{{schema.get('minLength', 0)},{schema.get('maxLength', '')}}}/")
        return " & ".join(parts)

    def _text_without(self, literal: str) -> str:
        """Any text up to a mark. A mark that is a token cannot be spelled by text (engines.tokenizer.turn);
        one that is not must be kept out of it, which is an expensive thing to ask of a mask."""
        if literal in self._ids:
            return lark.ANY_TEXT
        barred = lark.regex(f"(?s:.*){re.escape(literal)}(?s:.*)")
        return f"{lark.ANY_TEXT} & ~{barred}"


def is_plain_string(schema: dict[str, Any]) -> bool:
    """Whether its values are strings that stand as they are."""
    if schema.get("format") in _FORMATS or not _MORE.isdisjoint(schema):
        return False
    allowed = options(schema)
    if allowed is not None:
        return _LIMITS.isdisjoint(schema) and all(isinstance(option, str) for option in allowed)
    return schema.get("type") == "string"


def _written_as_json(lists: list[list[Property]]) -> set[str]:
    """The properties whose values do not stand as they are in one way to fit the arguments or another: they
    never do, else nobody could tell whether `10086` is a string or a number."""
    return {each.name for properties in lists for each in properties if not is_plain_string(each.schema)}


def _read(value: str) -> Any:
    try:
        return json_text.loads(value)
    except ValueError:
        return value


def _object(function: dict[str, Any]) -> dict[str, Any]:
    arguments = arguments_of(function)
    return arguments if isinstance(arguments, dict) else {"arguments": arguments}
