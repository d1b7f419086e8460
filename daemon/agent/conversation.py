"""Requests' messages in the form that chat templates take, and the turns that the agent adds."""

import json
from hashlib import sha256
from typing import Any

from daemon.agent.payloads import text_of
from daemon.tools.executor import Execution
from engines.tokenizer import Call
from schemas.message import FunctionCall, Message, ToolCall
from schemas.request import Request

Turn = dict[str, Any]


def turns(request: Request, system: str | None = None) -> list[Turn]:
    """The conversation in OpenAI form; `system` opens it unless it brings a system message of its own.

    Raises InvalidRequest for a payload that cannot be read.
    """
    conversation = [message.model_dump(exclude_none=True) for message in request.conversation()]
    if request.payload is not None:
        asked = conversation[-1]
        asked["content"] = "\n\n".join(filter(None, (asked["content"], text_of(request.payload))))
    if system and conversation[0]["role"] != "system":
        conversation.insert(0, {"role": "system", "content": system})
    for turn in conversation:
        turn.setdefault("content", "")
    return conversation


def split(conversation: list[Turn]) -> tuple[list[Turn], list[Turn]]:
    """The system messages that open it, and the rest."""
    system = next((i for i, turn in enumerate(conversation) if turn["role"] != "system"), len(conversation))
    return conversation[:system], conversation[system:]


def call_id(key: str, round_: int, index: int) -> str:
    """Names a call; the same whenever the same request is run again."""
    return "call_" + sha256(f"{key}/{round_}/{index}".encode()).hexdigest()[:24]


def call_turn(calls: list[Call], ids: list[str]) -> Turn:
    """The assistant's turn that makes `calls`."""
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            call.model_dump() for call in (_tool_call(*pair) for pair in zip(calls, ids, strict=True))
        ],
    }


def result_turn(execution: Execution, id_: str) -> Turn:
    """The result of one call, for the model."""
    return {"role": "tool", "tool_call_id": id_, "name": execution.tool, "content": execution.text}


def call_message(calls: list[Call], ids: list[str]) -> Message:
    """The reply's message that asks the caller to run `calls`."""
    return Message(
        role="assistant", tool_calls=[_tool_call(call, id_) for call, id_ in zip(calls, ids, strict=True)]
    )


def _tool_call(call: Call, id_: str) -> ToolCall:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return ToolCall(id=id_, function=FunctionCall(name=call.name, arguments=arguments))
