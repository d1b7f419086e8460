"""Texts with `{argument}` in them. A value is only ever put in as a value: nothing in it is looked at."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_FIELD = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}|[{}]")


@dataclass(frozen=True)
class Template:
    """`{name}` is an argument, `{{` and `}}` are braces. Made by `parse`."""

    parts: tuple[tuple[str, str | None], ...]

    @classmethod
    def parse(cls, text: str) -> "Template":
        """Raises ValueError for a brace that belongs to nothing."""
        parts: list[tuple[str, str | None]] = []
        literal, end = "", 0
        for match in _FIELD.finditer(text):
            literal += text[end : match.start()]
            end = match.end()
            if match[1]:
                parts.append((literal, match[1]))
                literal = ""
            elif len(match[0]) == 2:
                literal += match[0][0]
            else:
                raise ValueError(f"a lone {match[0]!r} in {text!r}; write it twice, or {{argument}}")
        return cls((*parts, (literal + text[end:], None)))

    @property
    def names(self) -> set[str]:
        return {name for _, name in self.parts if name}

    @property
    def only(self) -> str | None:
        """The argument that the whole text consists of, if it does."""
        first, *rest = self.parts
        return first[1] if first[0] == "" and rest == [("", None)] else None

    @property
    def starts_with_argument(self) -> bool:
        return self.parts[0][0] == "" and self.parts[0][1] is not None

    def render(
        self, values: Mapping[str, Any], quote: Callable[[str], str] = lambda text: text
    ) -> str | None:
        """The text, every value through `quote`; None when one of its arguments was left out."""
        if any(values[name] is None for name in self.names):
            return None
        return "".join(
            literal + (quote(as_text(values[name])) if name else "") for literal, name in self.parts
        )


def escape(text: str) -> str:
    """What `Template.parse` reads as literally `text`."""
    return text.replace("{", "{{").replace("}", "}}")


def as_text(value: Any) -> str:
    """A JSON value as a person would write it. Raises ValueError for lists and objects."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        raise ValueError("a list or an object cannot stand inside a text")
    return str(value)


Tree = Template | dict[str, "Tree"] | list["Tree"] | int | float | bool | None
"""JSON data whose texts are templates."""


def tree_names(tree: Tree) -> set[str]:
    return {name for template in _templates(tree) for name in template.names}


def render_tree(tree: Tree, values: Mapping[str, Any]) -> Any:
    """JSON data; a text that is nothing but `{name}` becomes the value itself, with its type.

    Members and items whose argument was left out are left out.
    """
    if isinstance(tree, Template):
        return values[tree.only] if tree.only else tree.render(values)
    if isinstance(tree, dict):
        rendered = {key: (item, render_tree(item, values)) for key, item in tree.items()}
        return {key: value for key, (item, value) in rendered.items() if value is not None or item is None}
    if isinstance(tree, list):
        pairs = [(item, render_tree(item, values)) for item in tree]
        return [value for item, value in pairs if value is not None or item is None]
    return tree


def _templates(tree: Tree) -> Iterator[Template]:
    if isinstance(tree, Template):
        yield tree
    elif isinstance(tree, dict | list):
        for item in tree.values() if isinstance(tree, dict) else tree:
            yield from _templates(item)
