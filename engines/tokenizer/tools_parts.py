"""Parts of a chat template that look at nothing but the tools: rendered once for each list of tools.

The tool list is the longest part of most prompts and the same for most requests, and a template in its
sandbox takes its time over it.
"""

from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, Template, meta, nodes

from engines.tokenizer.identity import IdentityCache

_PART = "tools_part"
# What is set outside a loop can be read behind it, a namespace's attribute even when it is set inside one.
_SETTING = (nodes.Assign, nodes.AssignBlock, nodes.Macro, nodes.Import, nodes.FromImport)
_NOT_ALONE = (nodes.NSRef, nodes.Block, nodes.Extends, nodes.Include, nodes.CallBlock)
_IMPURE_FILTERS = ("random",)


def cached_tools_parts(environment: Environment, template: nodes.Template) -> nodes.Template:
    """`template`, changed to take its parts that depend on `tools` alone from a cache."""
    parts: list[_Part] = []
    _take_out(environment, template.body, parts)
    environment.globals[_PART] = lambda index, tools: parts[index](tools)
    return template


class _Part:
    def __init__(self, environment: Environment, node: nodes.Stmt) -> None:
        self._template: Template = environment.from_string(_alone(node))
        self._cached = IdentityCache[str](self._render)

    def __call__(self, tools: Any) -> str:
        return self._cached(tools) if isinstance(tools, list) and tools else self._render(tools)

    def _render(self, tools: Sequence[Any] | None) -> str:
        return self._template.render(tools=tools)


def _take_out(environment: Environment, body: list[nodes.Node], parts: list[_Part]) -> None:
    for place, node in enumerate(body):
        if isinstance(node, nodes.If | nodes.For) and _sees_tools_only(node):
            arguments = [nodes.Const(len(parts)), nodes.Name("tools", "load")]
            read = nodes.Call(nodes.Name(_PART, "load"), arguments, [], None, None)
            output = nodes.Output([read]).set_lineno(node.lineno).set_environment(environment)
            body[place] = output
            parts.append(_Part(environment, node))
        elif isinstance(node, nodes.If):
            _take_out(environment, node.body, parts)
            _take_out(environment, node.else_, parts)


def _sees_tools_only(node: nodes.Stmt) -> bool:
    seen = meta.find_undeclared_variables(_alone(node))
    impure = any(each.name in _IMPURE_FILTERS for each in node.find_all(nodes.Filter))
    return seen == {"tools"} and not impure and not any(node.find_all(_NOT_ALONE)) and not _sets(node)


def _alone(node: nodes.Stmt) -> nodes.Template:
    return nodes.Template([node], lineno=node.lineno, environment=node.environment)


def _sets(node: nodes.Node) -> bool:
    """Whether it sets what those behind it may read."""
    if isinstance(node, nodes.For):
        return False
    return isinstance(node, _SETTING) or any(map(_sets, node.iter_child_nodes()))
