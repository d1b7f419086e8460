"""How tools fail and what is wrong with their declarations."""

from daemon.errors import ConfigurationError
from schemas.errors import AutoGLMError, ErrorCode


class ToolError(AutoGLMError):
    """The tool could not do what it was asked for.

    Raise it from a tool to tell the model so, in a short sentence: `raise ToolError("order A1 not found")`.
    It is a result like any other, so it is neither retried nor logged as a fault.
    """

    code = ErrorCode.TOOL_FAILED


class CallInDoubt(RuntimeError):
    """Raised by a tool with side effects that cannot tell whether the call took place.

    The call is then settled: run again if the tool has `retries` left, asked about if it has `reconcile`,
    which may find that it failed, or told as unknown, which ends the request.
    """


class RemoteUnavailable(RuntimeError):
    """The other side cannot answer now; another attempt may succeed."""


class ResultRefused(ToolError):
    """The call was made, but its result cannot be told; return dicts, lists, strings, numbers or models."""


class CallTooLarge(AutoGLMError):
    """The call is too large for the journal; raise `max.message.bytes` of its topic or ask for less."""

    code = ErrorCode.TOOL_FAILED


class ToolDeclarationError(ConfigurationError):
    """A tool is not declared properly; see the message for the function and what to change."""


class ToolModuleError(ConfigurationError):
    """A tool module cannot be loaded; see the message for the module and the reason."""
