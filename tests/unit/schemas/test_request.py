import pytest
from pydantic import ValidationError

from schemas.request import Request


def test_both_forms_give_the_same_conversation():
    long = Request.model_validate(
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"},
                      {"role": "user", "content": "status of A1?"}]})  # fmt: skip
    short = Request.model_validate(
        {
            "user_id": "u1",
            "query": "status of A1?",
            "history": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}],
        }
    )
    assert long.conversation() == short.conversation()


def test_text_parts_are_joined():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert (
        Request.model_validate({"messages": [{"role": "user", "content": parts}]}).messages[0].content == "ab"
    )


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({}, "either `messages` or `query`"),
        ({"query": "a", "messages": [{"role": "user", "content": "b"}]}, "either `messages` or `query`"),
        (
            {"messages": [{"role": "user", "content": "b"}], "history": [{"role": "user", "content": "c"}]},
            "`history`",
        ),
        ({"query": "a", "querry": "b"}, "querry"),
        ({"messages": [{"role": "user"}]}, "content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "type"),
        ({"query": "a", "sampling": {"temperature": -1}}, "temperature"),
        ({"query": "a", "max_tokens": 0}, "max_tokens"),
        ({"query": "a", "response_format": {"type": "yaml"}}, "response_format"),
    ],
)
def test_a_wrong_request_is_refused_by_name(body, names):
    with pytest.raises(ValidationError, match=names):
        Request.model_validate(body)
