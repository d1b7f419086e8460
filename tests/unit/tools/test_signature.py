from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from daemon.tools.context import ToolContext
from daemon.tools.errors import ToolDeclarationError
from daemon.tools.signature import Signature


@dataclass
class Point:
    x: int
    y: float = 0.5


class Path(BaseModel):
    points: list[Point]


def test_schema_of_plain_hints_is_exact_and_ordered():
    def create_ticket(user_id: str, amount: float, priority: Literal["low", "normal"] = "normal"): ...

    schema = Signature(create_ticket, "here").schema
    assert schema == {
        "type": "object",
        "properties": {
            "user_id": {"type": "string"},
            "amount": {"type": "number"},
            "priority": {"type": "string", "enum": ["low", "normal"], "default": "normal"},
        },
        "required": ["user_id", "amount"],
        "additionalProperties": False,
    }
    assert list(schema) == ["type", "properties", "required", "additionalProperties"]
    assert list(schema["properties"]["priority"]) == ["type", "enum", "default"]


def test_values_have_the_types_of_the_hints():
    def draw(path: Path, at: Point, copy: str | None = None, count: Annotated[int, Field(ge=1)] = 1): ...

    signature = Signature(draw, "here")
    values = signature.values({"path": {"points": [{"x": 1}]}, "at": {"x": 2, "y": 3}})
    assert values == {"path": Path(points=[Point(1)]), "at": Point(2, 3.0), "copy": None, "count": 1}
    assert signature.schema["properties"]["count"] == {"type": "integer", "minimum": 1, "default": 1}
    assert set(signature.schema["$defs"]) == {"Path", "Point"}


def test_wrong_arguments_are_named_in_one_sentence():
    def refund(order_id: str, amount: float): ...

    with pytest.raises(ValueError, match=r"order_id: .*string; amount: Field required; extra: "):
        Signature(refund, "here").values({"order_id": 5, "extra": 1})


def test_the_context_is_not_shown_to_the_model():
    def act(context: ToolContext, what: str): ...

    signature = Signature(act, "here")
    assert list(signature.schema["properties"]) == ["what"]
    assert signature.context_parameter == "context"


def test_the_context_is_found_behind_annotations():
    def act(what: str, context: Annotated[ToolContext | None, "who asks"] = None): ...

    signature = Signature(act, "here")
    assert (list(signature.schema["properties"]), signature.context_parameter) == (["what"], "context")


def test_a_context_that_cannot_be_handed_over_is_refused():
    def positional(context: ToolContext, /, what: str): ...

    def rest(what: str, *context: ToolContext): ...

    def named(what: str, **context: ToolContext): ...

    def two(first: ToolContext, second: ToolContext): ...

    for function in (positional, rest, named, two):
        with pytest.raises(ToolDeclarationError, match=r"^there: .*(name every parameter|drop one)"):
            Signature(function, "there")


def test_a_parameter_may_have_another_name_for_the_model():
    def find(order: str = Field(alias="orderId"), limit: int = Field(5, ge=1)): ...

    signature = Signature(find, "here")
    assert list(signature.schema["properties"]) == ["orderId", "limit"]
    assert signature.values({"orderId": "A1"}) == {"order": "A1", "limit": 5}


def test_a_function_without_parameters():
    def now(): ...

    assert Signature(now, "here").schema["required"] == []
    assert Signature(now, "here").values({}) == {}


def test_what_a_model_cannot_be_told_is_refused():
    def bare(value): ...

    def rest(*values: int): ...

    def unresolved(value: "NoSuchType"): ...  # noqa: F821

    class Opaque: ...

    def opaque(value: Opaque): ...

    for function in (bare, rest, unresolved, opaque):
        with pytest.raises(ToolDeclarationError, match=r"^there: "):
            Signature(function, "there")
