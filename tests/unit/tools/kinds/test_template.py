import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.tools.kinds.template import Template, escape, render_tree


def test_arguments_and_braces():
    template = Template.parse("a{{b}}{x}-{y}")
    assert template.names == {"x", "y"}
    assert template.render({"x": 1, "y": True}) == "a{b}1-true"
    assert template.render({"x": None, "y": 2}) is None


@pytest.mark.parametrize("text", ["{", "}", "{x", "{a b}", "{credential:x}", "{0}", "{x.y}", "{x!r}"])
def test_nothing_but_names_stands_between_braces(text):
    with pytest.raises(ValueError, match="lone"):
        Template.parse(text)


@given(st.text(), st.text())
def test_a_value_is_put_in_as_it_is(literal, value):
    assert Template.parse(escape(literal) + "{x}").render({"x": value}) == literal + value


def test_trees_keep_types_and_drop_what_was_left_out():
    tree = {"n": Template.parse("{n}"), "s": Template.parse("n={n}"), "gone": Template.parse("{m}"),
            "list": [Template.parse("{m}"), 1, None]}  # fmt: skip
    assert render_tree(tree, {"n": 1.5, "m": None}) == {"n": 1.5, "s": "n=1.5", "list": [1, None]}
    assert render_tree({"x": Template.parse("{x}")}, {"x": [1, {"a": "{n}"}]}) == {"x": [1, {"a": "{n}"}]}
