"""What the daemon puts on a reply topic: deltas while it works, then exactly one reply."""

from typing import Annotated, Any, Literal

from pydantic import Field

from schemas.errors import ErrorBody
from schemas.message import Message
from schemas.strict import Strict

Status = Literal["ok", "error", "rejected", "expired", "cancelled"]
Outcome = Literal["ok", "error", "timeout", "unknown", "compensated", "compensation_failed"]


class Usage(Strict):
    """Tokens of all rounds of the request together."""

    prompt_tokens: int = 0
    cached_tokens: int = Field(default=0, description="Prompt tokens whose KV was reused.")
    completion_tokens: int = 0


class Timings(Strict):
    """Where the time went, in milliseconds."""

    queue_ms: float = Field(default=0.0, description="From the record's arrival until its first prefill.")
    prefill_ms: float = 0.0
    first_token_ms: float | None = Field(default=None, description="From arrival to the first token.")
    decode_ms: float = 0.0
    tools_ms: float = 0.0
    total_ms: float = Field(default=0.0, description="From arrival until the reply was ready.")


class ToolReport(Strict):
    """One executed server tool call."""

    name: str
    arguments: dict[str, Any]
    result: Any = None
    duration_ms: float
    outcome: Outcome = Field(
        description="`ok` of a failed request: the effect stands. `unknown`: it may have taken place. "
        "`compensated`: it was undone. `compensation_failed`: it stands though it should have been undone."
    )
    reused: bool = Field(default=False, description="Executed for an earlier delivery, not again for this.")
    detail: str | None = Field(default=None, description="Why a compensation failed.")


class Intent(Strict):
    """What the model decided to do first."""

    kind: Literal["answer", "call_tool"]
    tools: list[str] = Field(default=[], description="The tools of that decision, in order.")


class Reply(Strict):
    """The one terminal record of a request."""

    type: Literal["reply"] = "reply"
    id: str = Field(description="The request's id.")
    status: Status
    task: str | None = None
    model: str | None = Field(default=None, description="The engine that answered.")
    message: Message | None = Field(
        default=None, description="The answer; with `tool_calls` when the caller is to run them."
    )
    finish_reason: Literal["stop", "length", "tool_calls"] | None = None
    structured: Any = Field(default=None, description="The parsed value of a structured answer.")
    intent: Intent | None = None
    tools: list[ToolReport] = Field(default=[], description="Executed server tools, in order.")
    usage: Usage = Usage()
    timings: Timings = Timings()
    error: ErrorBody | None = Field(default=None, description="Set unless `status` is `ok`.")
    attempt: int = Field(default=1, ge=1, description="Which delivery of the request this reply ended.")


class Delta(Strict):
    """A piece of a streamed answer. Numbered from 0 per attempt; the reply ends the stream."""

    type: Literal["delta"] = "delta"
    id: str
    attempt: int = Field(default=1, ge=1)
    index: int = Field(ge=0)
    content: str | None = None
    tool: str | None = Field(
        default=None,
        description="A server tool that starts running now. What some models say before they call it is no "
        "part of the answer, which begins anew here.",
    )


Record = Annotated[Reply | Delta, Field(discriminator="type")]
