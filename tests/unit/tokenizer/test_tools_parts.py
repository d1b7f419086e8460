"""A template that takes its tool list from a cache renders what it would render without."""

from unittest.mock import patch

import pytest

from daemon.bundled import CHECKPOINT
from engines.tokenizer import template as module
from engines.tokenizer.template import Template

from .conftest import GLM4_TEMPLATE, GLM45_TEMPLATE, TICKET, tool

BUNDLED = (CHECKPOINT / "chat_template.jinja").read_text(encoding="utf-8")
OTHER = tool("other", {"a": {"type": "integer", "default": 3}, "b": {"enum": ["x", "y"]}})
LISTS = [None, [], [TICKET], [OTHER, TICKET], [TICKET, OTHER], [TICKET]]
MESSAGES = [
    [{"role": "user", "content": "hello"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "tools"}],
]
EACH = "{% for tool in tools or [] %}"
WRITTEN = [
    "{% if tools %}{% set some = true %}{% endif %}{{ some }}{{ messages[0].content }}",
    EACH + "{% set x = tool %}{{ x | tojson }}{% endfor %}{{ x }}",
    "{% set n = namespace(c=0) %}" + EACH + "{% set n.c = n.c + 1 %}{% endfor %}{{ n.c }}",
    "{% set role = messages[0].role %}" + EACH + "{{ role }}{% endfor %}",
    "{% set tools = messages %}{% for t in tools %}{{ t.content }}{% endfor %}",
    "{% if tools %}a{% elif messages | length > 1 %}b{% else %}{% if tools %}c{% endif %}d{% endif %}",
    EACH + "{% if loop.index > 1 %}{% break %}{% endif %}{{ tool }}{% endfor %}.",
]


def rendered(template, messages, tools):
    return template.render(messages=messages, tools=tools, add_generation_prompt=True)


@pytest.mark.parametrize("source", [BUNDLED, GLM4_TEMPLATE, GLM45_TEMPLATE, *WRITTEN])
def test_nothing_is_rendered_differently(source):
    cached = Template(source)
    with patch.object(module, "cached_tools_parts", lambda environment, template: template):
        plain = Template(source)
    for _ in range(2):
        for tools in LISTS:
            for messages in MESSAGES:
                assert rendered(cached, messages, tools) == rendered(plain, messages, tools)
    assert cached.variables == plain.variables


def test_what_depends_on_the_tools_alone_is_rendered_once():
    """Seen by what nobody may do: changing a tool that was rendered."""
    template = Template("{% if tools %}{{ tools | tojson }}{% endif %}{{ messages[0].content }}")
    changing = {"name": "before"}
    assert rendered(template, MESSAGES[0], [changing]) == '[{"name": "before"}]hello'
    changing["name"] = "after"
    assert rendered(template, MESSAGES[1], [changing]) == '[{"name": "before"}]Be brief.'
    template = Template("{% for tool in tools %}{{ tool.name ~ messages[0].role }}{% endfor %}")
    assert rendered(template, MESSAGES[0], [changing]) == "afteruser"
    changing["name"] = "later"
    assert rendered(template, MESSAGES[0], [changing]) == "lateruser"


def test_what_comes_out_differently_each_time_is_not_kept():
    template, tools = Template("{% for tool in tools %}{{ tool | random }}{% endfor %}"), [[*range(10**6)]]
    assert rendered(template, MESSAGES[0], tools) != rendered(template, MESSAGES[0], tools)
