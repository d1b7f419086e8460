"""What the daemon refuses or fails at. The docstring is the default message and names the remedy."""

from schemas.errors import AutoGLMError, ErrorCode
from schemas.reply import Status

# What is wrong with the request, or with the moment, rather than with the work.
_REJECTIONS = frozenset(
    {
        ErrorCode.INVALID_JSON,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.PAYLOAD_TOO_LARGE,
        ErrorCode.PROMPT_TOO_LONG,
        ErrorCode.UNKNOWN_TASK,
        ErrorCode.UNKNOWN_TOOL,
        ErrorCode.UNKNOWN_MODEL,
        ErrorCode.UNKNOWN_REPLY_TOPIC,
        ErrorCode.UNSUPPORTED_SCHEMA,
        ErrorCode.OVERLOADED,
    }
)


class ConfigurationError(AutoGLMError):
    """A setting is wrong; run `autoglm check` to see which one and how to mend it."""

    code = ErrorCode.CONFIGURATION


class InvalidJson(AutoGLMError):
    """The record's value is not UTF-8 JSON; send one JSON object per record."""

    code = ErrorCode.INVALID_JSON


class InvalidRequest(AutoGLMError):
    """The request does not fit the schema; compare it with schemas/json/request.schema.json."""

    code = ErrorCode.INVALID_REQUEST


class PayloadTooLarge(AutoGLMError):
    """The record is larger than `limits.request_bytes`; send less text or raise the limit."""

    code = ErrorCode.PAYLOAD_TOO_LARGE


class ReplyTooLarge(AutoGLMError):
    """The reply is larger than the broker accepts; ask for less or raise `max.message.bytes` of the topic."""

    code = ErrorCode.REPLY_TOO_LARGE


class UnknownTask(AutoGLMError):
    """No such task; use `chat`, `classify`, `embed`, `extract` or `summarize`, or register one."""

    code = ErrorCode.UNKNOWN_TASK


class UnknownTool(AutoGLMError):
    """No such tool here; use a name that `autoglm check` lists, or send a schema to run the tool yourself."""

    code = ErrorCode.UNKNOWN_TOOL


class UnknownModel(AutoGLMError):
    """No such engine here; leave `model` out to use the default one."""

    code = ErrorCode.UNKNOWN_MODEL


class EngineInterrupted(AutoGLMError):
    """The engine that worked on the request failed, another one can take it; send the request again."""

    code = ErrorCode.ENGINE_FAILED
    retryable = True


class UnknownReplyTopic(AutoGLMError):
    """The reply topic does not exist; create it, or leave `reply-topic` out to use the default one."""

    code = ErrorCode.UNKNOWN_REPLY_TOPIC


class DeadlineExceeded(AutoGLMError):
    """The deadline passed before the answer was ready; send a later deadline or none."""

    code = ErrorCode.DEADLINE_EXCEEDED


class Cancelled(AutoGLMError):
    """The request was cancelled; send it again if it is still wanted."""

    code = ErrorCode.CANCELLED


class TooManyRounds(AutoGLMError):
    """The model kept calling tools; raise `agent.max_rounds` or offer fewer tools."""

    code = ErrorCode.TOO_MANY_ROUNDS


class RetriesExhausted(AutoGLMError):
    """The request failed several times for a reason that may pass; send it again later."""

    code = ErrorCode.RETRIES_EXHAUSTED
    retryable = True


class ToolOutcomeUnknown(AutoGLMError):
    """Nobody knows whether a tool had its effect; look it up where the tool acts before asking again."""

    code = ErrorCode.TOOL_OUTCOME_UNKNOWN


class PrerequisiteMissing(ConfigurationError):
    """Something this machine needs is missing."""


def status_of(error: AutoGLMError, started: bool = False) -> Status:
    """The reply's status for an error; `rejected` when nothing was `started` and nothing will be."""
    if isinstance(error, DeadlineExceeded):
        return "expired"
    if isinstance(error, Cancelled):
        return "cancelled"
    return "rejected" if error.code in _REJECTIONS and not started else "error"
