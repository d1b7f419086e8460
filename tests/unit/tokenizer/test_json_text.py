import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.tokenizer.formats import json_text
from schemas.reply import Reply, ToolReport


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, 2.5, "你", null]}', {"a": [1, 2.5, "你", None]}),
        ("1e999", 1.7976931348623157e308),
        ("-1e999", -1.7976931348623157e308),
        ("9" * 5000, 1.7976931348623157e308),
        (r'{"\ud800": "a\udfff"}', {"�": "a�"}),
        (r'"\ud83d\ude00"', "😀"),
    ],
)
def test_values_that_everybody_can_take(text, value):
    assert json_text.loads(text) == value
    assert json.dumps(json_text.loads(text), ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize(
    "text", ["", "{", "1 2", "[" * 100_000, "[" * 129 + "]" * 129, "nul", "NaN", "[-Infinity]"]
)
def test_what_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError):
        json_text.loads(text)


def test_the_deepest_value_fits_where_replies_nest_deepest():
    value = json_text.loads('{"a": ' * json_text.DEEPEST + "1" + "}" * json_text.DEEPEST)
    report = ToolReport(name="f", arguments=value, result=value, duration_ms=0, outcome="ok")
    reply = Reply(id="r", status="ok", structured=value, tools=[report])
    assert Reply.model_validate_json(reply.model_dump_json()) == reply


@given(st.recursive(st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.text(), st.lists))
def test_ordinary_values_are_unchanged(value):
    assert json_text.loads(json.dumps(value)) == value
