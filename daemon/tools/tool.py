"""One tool: a typed function and what the daemon must know to run it."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from daemon.tools.errors import ToolDeclarationError
from daemon.tools.schema_signature import SchemaSignature
from daemon.tools.signature import Signature

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
ToolFunction = Callable[..., Any]


@dataclass(frozen=True)
class Tool:
    """`timeout` in seconds per attempt, None for the executor's, after at most as many for a free place;
    `retries` after a failed attempt; `concurrency` calls at a time, and as many undone and asked about.

    `read_only`: changes nothing. `idempotent`: running a call twice does no more than running it once.
    `compensate(arguments, result)` undoes a finished call; it must be safe to repeat, for a crash may make
    it run again. `reconcile(arguments, context)` finds out whether the call with `context.idempotency_key`
    took place: it returns that call's result, or None when it did not. Both may be sync or async, or return
    what is to be awaited; `compensate` gets the context as well if it takes three parameters. `scopes` are
    what a caller must hold to use it.
    `keywords` are words and example requests, in any language, by which it is found when there are more tools
    than the model gets to see; the model does not see them.
    `origin` is where the function stands, as `file:line`.
    """

    name: str
    description: str
    function: ToolFunction
    signature: Signature | SchemaSignature
    origin: str
    timeout: float | None = None
    retries: int = 0
    read_only: bool = False
    idempotent: bool = False
    compensate: ToolFunction | None = None
    reconcile: ToolFunction | None = None
    scopes: frozenset[str] = frozenset()
    concurrency: int = 16
    keywords: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ToolDeclarationError."""
        for wrong, remedy in (
            (not _NAME.fullmatch(self.name), "a name is 1 to 64 letters, digits, _ . or -, no digit first"),
            (not self.description.strip(), "give a description or a docstring: it is what the model reads"),
            (self.timeout is not None and self.timeout <= 0, "timeout must be more than 0 seconds"),
            (self.retries < 0, "retries must be 0 or more"),
            (self.concurrency < 1, "concurrency must be 1 or more"),
            *(
                (
                    _is_generator(function),
                    f"{name} is a generator function, which does nothing when it is called; return instead",
                )
                for name, function in (
                    ("it", self.function),
                    ("compensate", self.compensate),
                    ("reconcile", self.reconcile),
                )
            ),
            (not _takes(self.compensate, 2, 3), "compensate must take (arguments, result)"),
            (not _takes(self.reconcile, 2), "reconcile must take (arguments, context)"),
            (
                self.retries > 0 and not (self.read_only or self.idempotent),
                "retries would repeat its side effects; declare read_only or idempotent, or drop them",
            ),
        ):
            if wrong:
                raise ToolDeclarationError(f"tool {self.name!r} ({self.origin}): {remedy}.")

    @property
    def is_async(self) -> bool:
        return is_coroutine(self.function)

    @property
    def parameters(self) -> dict[str, Any]:
        """JSON schema of the arguments object."""
        return self.signature.schema

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The tool as an OpenAI function schema, always the same object."""
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": self.parameters,
            },
        }


def is_coroutine(function: ToolFunction) -> bool:
    # Of a decorated function its wrapper counts: one that calls asyncio.run is no coroutine function.
    return inspect.iscoroutinefunction(function)


def _is_generator(function: ToolFunction | None) -> bool:
    plain = None if function is None else inspect.unwrap(function)
    return inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain)


def takes(function: ToolFunction, count: int) -> bool:
    """Whether a function can be called with that many positional arguments."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # a built-in that does not say what it takes
        return True
    return True


def _takes(function: ToolFunction | None, *counts: int) -> bool:
    return function is None or any(takes(function, count) for count in counts)


def origin_of(function: ToolFunction) -> str:
    """`file:line` of a function, as far as Python knows."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(function)
