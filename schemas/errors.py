"""What can go wrong, as a closed list of stable codes: the same on the wire and in Python."""

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from schemas.strict import Strict

# Of a message on the wire: what it quotes may be as long as the request. Its end names the remedy.
_BEGINNING, _END = 1_500, 500


class ErrorCode(StrEnum):
    """Codes of `error.code` in a reply. A code never changes its meaning; new ones may be added."""

    INVALID_JSON = "invalid_json"
    INVALID_REQUEST = "invalid_request"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    PROMPT_TOO_LONG = "prompt_too_long"
    UNKNOWN_TASK = "unknown_task"
    UNKNOWN_TOOL = "unknown_tool"
    UNKNOWN_MODEL = "unknown_model"
    UNKNOWN_REPLY_TOPIC = "unknown_reply_topic"
    UNSUPPORTED_SCHEMA = "unsupported_schema"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    CANCELLED = "cancelled"
    OVERLOADED = "overloaded"
    TOO_MANY_ROUNDS = "too_many_rounds"
    TOOL_FAILED = "tool_failed"
    TOOL_OUTCOME_UNKNOWN = "tool_outcome_unknown"
    ENGINE_FAILED = "engine_failed"
    MEMORY_UNAVAILABLE = "memory_unavailable"
    REPLY_TOO_LARGE = "reply_too_large"
    RETRIES_EXHAUSTED = "retries_exhausted"
    CONFIGURATION = "configuration"
    INTERNAL = "internal"


class ErrorBody(Strict):
    """The `error` of a reply: a code for programs, a message with the remedy for people."""

    code: ErrorCode
    message: str = Field(description="What is wrong and what to do about it.")
    retryable: bool = Field(description="Whether sending the same request again may succeed.")
    retry_after_seconds: float | None = Field(
        default=None, ge=0.0, description="How long to wait before that, where it is known."
    )


class AutoGLMError(Exception):
    """Something went wrong inside Open-AutoGLM; see the daemon's log for the details."""

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL
    retryable: ClassVar[bool] = False

    def __init__(self, message: str | None = None, *, retry_after_seconds: float | None = None) -> None:
        """Without `message` the first paragraph of the class's docstring is the message."""
        doc = type(self).__doc__ or ""
        super().__init__(message or " ".join(doc.split("\n\n")[0].split()))
        self.retry_after_seconds = retry_after_seconds

    def body(self) -> ErrorBody:
        return ErrorBody(
            code=self.code,
            message=_brief(str(self)),
            retryable=self.retryable,
            retry_after_seconds=self.retry_after_seconds,
        )


def _brief(text: str) -> str:
    return text if len(text) <= _BEGINNING + _END else f"{text[:_BEGINNING]} … {text[-_END:]}"
