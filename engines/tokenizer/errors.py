"""What the tokenizer refuses. The docstring is the default message and names the remedy."""

from schemas.errors import AutoGLMError, ErrorCode


class TokenizerMissing(AutoGLMError):
    """There is no usable tokenizer.json; take the checkpoint's, or pass token ids instead of text."""

    code = ErrorCode.CONFIGURATION


class TemplateMissing(AutoGLMError):
    """The checkpoint has no chat template; put a chat_template.jinja beside tokenizer.json."""

    code = ErrorCode.CONFIGURATION


class TemplateBroken(AutoGLMError):
    """The chat template is not valid Jinja; compare chat_template.jinja with the original checkpoint's."""

    code = ErrorCode.CONFIGURATION


class MessagesRefused(AutoGLMError):
    """The model's chat template does not take these messages; check roles and their order."""

    code = ErrorCode.INVALID_REQUEST


class ToolSchemaRefused(AutoGLMError):
    """A tool's schema cannot be turned into a grammar; simplify the property that the message names."""

    code = ErrorCode.UNSUPPORTED_SCHEMA
