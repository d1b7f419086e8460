"""What only the agent refuses."""

from schemas.errors import AutoGLMError, ErrorCode


class UnsupportedSchema(AutoGLMError):
    """A schema in the request cannot be enforced; take out the keyword that the message names."""

    code = ErrorCode.UNSUPPORTED_SCHEMA
