"""What the memory fails at."""

from schemas.errors import AutoGLMError, ErrorCode


class MemoryUnavailable(AutoGLMError):
    """The conversation memory does not answer; send the request again later."""

    code = ErrorCode.MEMORY_UNAVAILABLE
    retryable = True
