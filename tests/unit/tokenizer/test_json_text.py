import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.tokenizer.formats import json_text


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


@pytest.mark.parametrize("text", ["", "{", "1 2", "[" * 100_000, "nul", "NaN", "[-Infinity]"])
def test_what_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError):
        json_text.loads(text)


@given(st.recursive(st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.text(), st.lists))
def test_ordinary_values_are_unchanged(value):
    assert json_text.loads(json.dumps(value)) == value
