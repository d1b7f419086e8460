"""Cases of the Berkeley Function Calling Leaderboard as requests, and what is wrong with a reply to one."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from schemas.reply import Reply

EXCERPT = Path(__file__).parent / "data" / "bfcl" / "live_simple.jsonl"
# BFCL names types as Python does.
_TYPES = {"dict": "object", "float": "number", "tuple": "array"}


def cases(path: Path = EXCERPT) -> list[dict[str, Any]]:
    """Requests with one tool each, which the model must call; `id` is the case's."""
    return [_request(json.loads(line)) for line in path.read_text("utf-8").splitlines()]


def problem(request: dict[str, Any], reply: Reply) -> str | None:
    """Why the reply is no call that fits the caller's schema; None when it is one."""
    (tool,) = request["tools"]
    calls = (reply.message and reply.message.tool_calls) or []
    if reply.status != "ok" or len(calls) != 1:
        return f"{reply.status}, {len(calls)} calls, {reply.finish_reason}, {reply.error}"
    function = calls[0].function
    if function.name != tool["function"]["name"]:
        return f"calls {function.name}"
    try:
        arguments = json.loads(function.arguments)
    except ValueError as error:
        return f"{error}: {function.arguments}"
    validator = Draft202012Validator(tool["function"]["parameters"])
    return next((error.message for error in validator.iter_errors(arguments)), None)


def _request(case: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": case["id"],
        "messages": case["question"][0],
        "tools": [
            {"type": "function", "function": {**function, "parameters": _schema(function["parameters"])}}
            for function in case["function"]
        ],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }


def _schema(schema: Any) -> Any:
    """With JSON Schema's names of types; `any` is no constraint. Properties may be called `type` as well."""
    if not isinstance(schema, dict):
        return schema
    changed = dict(schema)
    if isinstance(kind := schema.get("type"), str):
        changed["type"] = _TYPES.get(kind, kind)
        if kind == "any":
            del changed["type"]
    if isinstance(properties := schema.get("properties"), dict):
        changed["properties"] = {name: _schema(property_) for name, property_ in properties.items()}
    for key in ("items", "additionalProperties"):
        if key in schema:
            changed[key] = _schema(schema[key])
    return changed
