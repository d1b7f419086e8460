"""Errors of the engines; the factory's first, the machine's after them."""

from typing import ClassVar

from schemas.errors import AutoGLMError, ErrorCode


class CheckpointError(AutoGLMError):
    """The checkpoint cannot be read; give a Hugging Face folder with config.json and safetensors files."""

    code: ClassVar[ErrorCode] = ErrorCode.CONFIGURATION


class UnsupportedModel(CheckpointError):
    """The checkpoint needs something the factory does not build; use a GLM family it lists."""


class BuildError(AutoGLMError):
    """The engine could not be built; see the message for the step that failed."""

    code: ClassVar[ErrorCode] = ErrorCode.CONFIGURATION


class EngineFolderError(AutoGLMError):
    """The engine folder is incomplete or altered; build it again with `autoglm build`."""

    code: ClassVar[ErrorCode] = ErrorCode.CONFIGURATION
