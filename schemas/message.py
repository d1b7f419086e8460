"""One turn of a conversation, in the form of OpenAI's chat completions API.

Source of the form: https://platform.openai.com/docs/api-reference/chat/create (`messages`, `tools`).
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from schemas.strict import Strict


class TextPart(BaseModel):
    """A part of a message's content; what else it says is passed over."""

    type: Literal["text"]
    text: str


def _join_text_parts(content: Any) -> Any:
    """OpenAI allows a list of `{"type": "text", "text": …}` parts wherever a string may stand."""
    if not isinstance(content, list):
        return content
    parts = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise ValueError('only parts of the form {"type": "text", "text": "…"} are understood')
        parts.append(part["text"])
    return "".join(parts)


Text = Annotated[str, BeforeValidator(_join_text_parts, json_schema_input_type=str | list[TextPart])]


class FunctionCall(Strict):
    name: str
    arguments: str = Field(description="The arguments as JSON text.")


class ToolCall(Strict):
    """A call the model asks the caller to execute."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(Strict):
    role: Literal["system", "user", "assistant", "tool"]
    content: Text | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = Field(default=None, description="Only with role `assistant`.")
    tool_call_id: str | None = Field(default=None, description="Only with role `tool`: the call it answers.")

    @model_validator(mode="after")
    def _has_something_to_say(self) -> "Message":
        if self.content is None and not self.tool_calls:
            raise ValueError("a message needs `content` (or, from the assistant, `tool_calls`)")
        if self.tool_calls and self.role != "assistant":
            raise ValueError("`tool_calls` belong to role `assistant`")
        if self.tool_call_id and self.role != "tool":
            raise ValueError("`tool_call_id` belongs to role `tool`")
        return self


class Function(Strict):
    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$")
    description: str = ""
    parameters: dict[str, Any] = Field(
        default_factory=lambda: {"type": "object", "properties": {}}, description="A JSON Schema object."
    )
    strict: bool | None = None


class ToolSchema(Strict):
    """A tool that the caller will execute itself."""

    type: Literal["function"] = "function"
    function: Function


class FunctionName(Strict):
    name: str


class NamedToolChoice(Strict):
    """`tool_choice` that forces one tool."""

    type: Literal["function"] = "function"
    function: FunctionName


ToolChoice = Literal["auto", "none", "required"] | NamedToolChoice
