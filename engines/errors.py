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


class InvalidPrompt(AutoGLMError):
    """The prompt cannot be run as it is; see the message for the field that is wrong."""

    code: ClassVar[ErrorCode] = ErrorCode.INVALID_REQUEST


class PromptTooLong(AutoGLMError):
    """The prompt does not fit the engine's context; shorten it or load the engine with more capacity."""

    code: ClassVar[ErrorCode] = ErrorCode.PROMPT_TOO_LONG


class HiddenStateMissing(AutoGLMError):
    """This engine was built before graphs gave hidden states; build it again with `autoglm build`."""

    code: ClassVar[ErrorCode] = ErrorCode.CONFIGURATION


class EngineBusy(AutoGLMError):
    """The engine's queue is full; send the request again later or raise its limit."""

    code: ClassVar[ErrorCode] = ErrorCode.OVERLOADED
    retryable: ClassVar[bool] = True


class EngineFailed(AutoGLMError):
    """The engine stopped because of an error; restart the daemon and see its log for the cause."""

    code: ClassVar[ErrorCode] = ErrorCode.ENGINE_FAILED
    retryable: ClassVar[bool] = True


class EngineClosed(EngineFailed):
    """The engine is closed; send the request again once the daemon is back."""


class GenerationFailed(AutoGLMError):
    """The model's numbers are not finite; rebuild the engine at a higher precision."""

    code: ClassVar[ErrorCode] = ErrorCode.ENGINE_FAILED


class GrammarError(AutoGLMError):
    """The response format cannot be made into a grammar; see the message for the part that is wrong."""

    code: ClassVar[ErrorCode] = ErrorCode.INVALID_REQUEST


class EngineTooLarge(AutoGLMError):
    """The KV caches do not fit into memory; load the engine with fewer rows or less capacity."""

    code: ClassVar[ErrorCode] = ErrorCode.CONFIGURATION


class KernelError(AutoGLMError):
    """The GPU kernels cannot be compiled or loaded; to compile them, pip install nvidia-cuda-nvrtc."""

    code: ClassVar[ErrorCode] = ErrorCode.CONFIGURATION


class DeviceNotFound(AutoGLMError):
    """There is no such GPU; `nvidia-smi -L` lists those there are."""

    code: ClassVar[ErrorCode] = ErrorCode.CONFIGURATION


class GpuFailed(EngineFailed):
    """The GPU reported an error that a process does not recover from; restart, and see dmesg for an Xid.

    exit_code: of the process, EX_IOERR of sysexits.h, so that an operator can tell it from other failures.
    """

    exit_code: ClassVar[int] = 74


class GpuLost(GpuFailed):
    """The GPU cannot be reached any more; see dmesg, and reset or replace it."""


class StepHung(GpuFailed):
    """The GPU does not finish a step; restart, and see dmesg for an Xid."""
