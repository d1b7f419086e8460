"""Tools with schemas as they are met: whatever the model would write, a call fits its schema."""

import jsonschema
import pytest

from engines.tokenizer.errors import ToolSchemaRefused

from .conftest import TEXT, tool
from .test_formats import FORMATS, wander


@pytest.fixture(params=FORMATS)
def tokenizer(request):
    return request.getfixturevalue(request.param)


def calls(tokenizer, tool_, seeds=3):
    """The arguments that a model with random weights writes, read as the agent does."""
    grammar = tokenizer.format.grammar([tool_], "required")
    for seed in range(seeds):
        turn = tokenizer.turn()
        turn.push(wander(tokenizer, grammar, seed)[0])
        (call,) = turn.output([tool_])
        assert call.name == tool_["function"]["name"]
        yield call.arguments


def problems(schema, arguments):
    """Independent of whatever makes the grammars."""
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    return [error.message for error in validator.iter_errors(arguments)]


@pytest.mark.parametrize(
    "property_",
    [
        {"type": "string", "format": "date"},
        {"type": "string", "format": "uuid", "pattern": "^[0-4]"},
        {"type": "string", "anyOf": [{"const": "x"}, {"pattern": "^[yz]$"}]},
        {"type": "string", "allOf": [{"minLength": 2}, {"maxLength": 3}]},
        {"type": "string", "enum": ["a", "bb", "ccc"], "minLength": 2},
        {"type": "string", "enum": ["a", None]},
        {"type": "string", "$ref": "#/$defs/one"},
        {"type": "integer", "enum": ["1", 2, 3.0]},
        {"type": ["string", "null"], "enum": ["", "</arg_value>", 5]},
        {"enum": ["a", 1, None, 2.5, True, ["q"], {"z": 1}]},
    ],
)
def test_a_value_is_held_to_all_that_its_schema_says(tokenizer, property_):
    made = tool("f", {"a": property_}, **{"$defs": {"one": {"enum": ["x", "y"]}}})
    for arguments in calls(tokenizer, made):
        assert problems(made["function"]["parameters"], arguments) == []


@pytest.mark.parametrize("name", ["<a>", "n<5", "n>", " a ", "a\nb", "订单"])
def test_a_value_is_read_by_its_schema_whatever_its_name(tokenizer, name):
    made = tool("f", {name: {"type": "integer"}, "z": TEXT})
    for arguments in calls(tokenizer, made):
        assert problems(made["function"]["parameters"], arguments) == []


@pytest.mark.parametrize("impossible", [False, {"type": "boolean", "enum": ["True", "dontcare"]}])
def test_what_has_no_value_is_left_out_or_refused(tokenizer, impossible):
    made = tool("f", {"a": impossible, "b": TEXT}, required=["b"])
    assert all(arguments.keys() == {"b"} for arguments in calls(tokenizer, made))
    with pytest.raises(ToolSchemaRefused, match="tool f: required property 'a' is unsatisfiable"):
        tokenizer.format.grammar([tool("f", {"a": impossible, "b": TEXT})])


X, Y = {"x": {"type": "integer"}}, {"y": {"type": "string", "maxLength": 5}}
IN_X, IN_Y = {"properties": X, "required": ["x"]}, {"properties": Y, "required": ["y"]}


@pytest.mark.parametrize(
    "parameters",
    [
        {"$ref": "#/$defs/a~1b%20", "$defs": {"a/b ": IN_X}},
        {"type": "object", "allOf": [IN_X, {"$ref": "#/allOf/0"}, IN_Y]},
        {"type": "object", "properties": X | Y, "anyOf": [{"required": ["x"]}, {"required": ["y"]}]},
        {"type": "object", "anyOf": [{"type": "null"}, IN_X, IN_Y | {"additionalProperties": False}]},
        {"type": "object", "anyOf": [IN_X, {"properties": {"x": {"type": "string"}}, "required": ["x"]}]},
        {"type": "object", "allOf": [IN_X, {"properties": {"x": {"minimum": 7, "maximum": 9}}}]},
        {"type": "object", "properties": X | Y, "minProperties": 1},
        {"type": "object", "required": ["x"], "additionalProperties": X["x"]},
        {"type": "object", "required": ["x1"], "patternProperties": {"^x": {"enum": [5]}}},
        {"type": "object", **IN_X, "patternProperties": {"^x": {"maximum": 5}}},
    ],
)
def test_a_call_fits_what_its_parameters_combine(tokenizer, parameters):
    made = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    for arguments in calls(tokenizer, made, seeds=3):
        assert problems(parameters, arguments) == []


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"oneOf": [{"required": ["x"]}, {"required": ["y"]}]}, "oneOf"),
        ({"if": {"required": ["x"]}, "then": {"required": ["y"]}}, "if"),
        ({"required": ["z"]}, "required property 'z' is unsatisfiable"),
        ({"dependentRequired": {"x": ["y"]}}, "dependentRequired"),
        ({"allOf": [{"$ref": "#"}]}, "leads to itself"),
        ({"$ref": "#/$defs/none"}, "leads nowhere"),
        ({"minProperties": 3}, "do not fit"),
    ],
)
@pytest.mark.parametrize("name", ["glm45", "chatglm3"])
def test_what_a_call_cannot_be_held_to_is_refused(request, name, more, complaint):
    made = tool("f", X | Y, **({"required": []} | more))
    with pytest.raises(ToolSchemaRefused, match=f"^tool f: .*{complaint}"):
        request.getfixturevalue(name).format.grammar([made])
