"""A checkpoint's chat template, run in a sandbox.

Templates come with checkpoints, so they are code from outside: Jinja's immutable sandbox lets them read what
they are given and nothing else. Filters and globals are those that Hugging Face gives its chat templates
(https://huggingface.co/docs/transformers/chat_templating_writing).
"""

import json
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, meta
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
            self.variables = frozenset(meta.find_undeclared_variables(environment.parse(source)))
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
