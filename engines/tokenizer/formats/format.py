"""What every tool-call format does: adapt messages to the template, constrain what follows, read it back.

For whoever runs the grammar (llguidance, Lark syntax):

* Generation starts right after the template's generation prompt, `<|assistant|>` for GLM.
* A grammar of a format includes the token that ends the turn, as `<[id]>`: `<|user|>` or `<|endoftext|>`
  after an answer, `<|observation|>` after a call. So the mask never offers an end before the output is
  complete, never another one than fits, and it makes no difference which ids llguidance takes for EOS. The
  machine ends a generation as usual when the sampled token is one of the stop ids (it need not feed it to
  the matcher), and also when the matcher says `is_stopped()`: nothing may follow then, whatever the stop ids.
* The end token can be among the forced tokens (`"}` is followed by `<|observation|>`, always); a forced stop
  id ends the generation like a sampled one.
* `try_consume_tokens` stops short of an EOS token; `consume_token` takes it.
* Markers such as `<tool_call>` are written as `<[id]>` where they are added tokens, because llguidance keeps
  every added token of the form `<…>` out of ordinary text.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from engines.tokenizer.formats import lark
from engines.tokenizer.formats.shape import Shape
from engines.tokenizer.template import Template

Message = dict[str, Any]
Tool = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """The model answered in text."""

    text: str


@dataclass(frozen=True)
class Call:
    """The model calls a tool."""

    name: str
    arguments: dict[str, Any]


Output = Answer | list[Call]


class Format(ABC):
    """`added_tokens` maps literals to ids. `write_defaults` makes properties that have a default mandatory in
    calls, for models that were trained to write every argument."""

    name: ClassVar[str]
    answer_ends: ClassVar[tuple[str, ...]] = ("<|user|>", "<|endoftext|>")
    call_ends: ClassVar[tuple[str, ...]] = ("<|observation|>",)
    parallel_calls: ClassVar[bool] = False  # whether the family was trained on several calls in one turn
    answer_lead: ClassVar[str] = "\n"  # between the generation prompt and an answer's text

    def __init__(self, added_tokens: Mapping[str, int], *, write_defaults: bool = False) -> None:
        self._ids = added_tokens
        self.write_defaults = write_defaults

    def adapt(
        self, messages: Sequence[Message], tools: list[Tool] | None, template: Template
    ) -> list[Message]:
        """OpenAI messages in the form that this family's templates expect; None values are left out."""
        return [{key: value for key, value in message.items() if value is not None} for message in messages]

    def grammar(
        self,
        tools: Sequence[Tool],
        choice: str = "auto",
        *,
        answer: Shape | None = None,
        parallel: bool = False,
    ) -> str:
        """Lark text for llguidance of what may follow the generation prompt.

        `choice` is `auto` (answer or call), `none`, `required` or the name of one tool; `answer` shapes the
        answer; `parallel` allows several calls in one turn. Raises ToolSchemaRefused, KeyError for an unknown
        tool name in `choice`.
        """
        starts, rules = self._rules(chosen(tools, choice), choice, answer, parallel)
        return "\n".join([f"start: {' | '.join(starts)}", *rules]) + "\n"

    @abstractmethod
    def _rules(
        self, functions: list[Tool], choice: str, answer: Shape | None, parallel: bool
    ) -> tuple[list[str], list[str]]:
        """Names of the rules that an output may start with, and all rules, of calls of these functions."""

    @abstractmethod
    def parse(self, text: str, tools: Sequence[Tool] = ()) -> Output:
        """Reads a finished turn: text with special tokens kept, without the one that ended it.

        `tools` are those offered; formats that do not mark the type of a value look it up there. From tokens,
        engines.tokenizer.turn.Turn is the safer reader.
        """

    @abstractmethod
    def answer(self, text: str) -> str:
        """What a turn says when nothing in it can be a call; of an unfinished turn, the beginning of that."""

    @abstractmethod
    def visible(self, text: str) -> str:
        """Of an unfinished turn, what a reader may already see: the answer so far, nothing of a call."""

    def marker(self, literal: str) -> str:
        """`literal` as a Lark expression: the token itself where the vocabulary has it."""
        return f"<[{self._ids[literal]}]>" if literal in self._ids else lark.quote(literal)

    @property
    def answer_end(self) -> int | None:
        """The token that usually ends an answer; None when the vocabulary has none of them."""
        return next((self._ids[literal] for literal in self.answer_ends if literal in self._ids), None)

    def _answer_end(self, shape: Shape | None) -> str:
        """Where nothing else may follow, one end is as good as another, and one alone needs no sampling."""
        if shape is None or not shape.closed or self.answer_end is None:
            return self._end(self.answer_ends)
        return f" <[{self.answer_end}]>"

    def _end(self, literals: Sequence[str]) -> str:
        ids = [str(self._ids[literal]) for literal in literals if literal in self._ids]
        return f" <[{','.join(ids)}]>" if ids else ""


def chosen(tools: Sequence[Tool], choice: str) -> list[Tool]:
    """The functions that may be called under `choice`. Raises KeyError for an unknown name."""
    functions = [tool.get("function", tool) for tool in tools]
    if choice == "none":
        return []
    if choice in ("auto", "required"):
        return functions
    named = [function for function in functions if function["name"] == choice]
    if not named:
        raise KeyError(choice)
    return named
