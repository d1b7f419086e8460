"""A checkpoint's chat template, run in a sandbox.

Templates come with checkpoints, so they are code from outside: Jinja's immutable sandbox lets them read what
they are given and nothing else. Filters and globals are those that Hugging Face gives its chat templates
(https://huggingface.co/docs/transformers/chat_templating_writing).
"""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import partial
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engines.tokenizer.errors import MessagesRefused, TemplateBroken
from engines.tokenizer.tools_parts import cached_tools_parts


class Template:
    """`source` is the text of chat_template.jinja. Raises TemplateBroken.

    The objects in `tools` must not be changed once they were rendered.
    """

    def __init__(self, source: str) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
        self.source = source
        try:
            parsed = environment.parse(source)
            self.variables = frozenset(
                filter(partial(_reads, parsed), meta.find_undeclared_variables(parsed))
            )
            self._compiled = environment.from_string(
                cached_tools_parts(environment, environment.parse(source))
            )
        except TemplateSyntaxError as error:
            raise TemplateBroken(
                f"chat_template.jinja, line {error.lineno}: {error.message}; "
                "compare it with the original checkpoint's."
            ) from error

    def render(self, **variables: Any) -> str:
        """Raises MessagesRefused when the template itself objects or stumbles over the messages."""
        try:
            return self._compiled.render(**variables)
        except (TemplateError, TypeError, ValueError, AttributeError, KeyError) as error:
            raise MessagesRefused(f"the model's chat template refused the messages: {error}") from error


def _reads(node: nodes.Node, name: str) -> bool:
    """Whether the first mention of `name` reads it: else what the template is given under it is never seen.

    Jinja takes what is set inside an `if` for undeclared everywhere, such as the `tools` which the first
    templates of glm-4-9b-chat find in a message.
    """
    return next((found.ctx == "load" for found in _names(node) if found.name == name), False)


def _names(node: nodes.Node) -> Iterator[nodes.Name]:
    """In the order in which they are looked at."""
    if isinstance(node, nodes.Name):
        yield node
    children: Iterable[nodes.Node] = node.iter_child_nodes()
    if isinstance(node, nodes.Assign):
        children = (node.node, node.target)
    for child in children:
        yield from _names(child)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes for HTML, which no model was trained on.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> None:
    raise TemplateError(message)
