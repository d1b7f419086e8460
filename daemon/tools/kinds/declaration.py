"""What all declared tools have in common."""

import inspect
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import jmespath
from pydantic import BaseModel, ConfigDict, Field, field_validator

from daemon.tools.context import ToolContext
from daemon.tools.errors import CallInDoubt, RemoteUnavailable, ResultRefused, ToolError
from daemon.tools.kinds.argument import Argument, fill_in, object_schema
from daemon.tools.kinds.credentials import Credentials
from daemon.tools.schema_signature import CONTEXT, SchemaSignature
from daemon.tools.tool import Tool

Call = Callable[[dict[str, Any], ToolContext], Any]
"""Runs a tool, sync or async: every argument (None: left out) and the context → JSON data."""


async def nothing_to_close() -> None:
    """For tools that hold nothing open."""


@dataclass(frozen=True)
class Opened:
    """Tools ready to be called. `close` gives back what they hold open, when none of them runs any more;
    `problems` are those that cannot be offered, and `changed` says whether opening again gives others."""

    tools: tuple[Tool, ...]
    close: Callable[[], Awaitable[None]] = nothing_to_close
    problems: tuple[str, ...] = ()
    changed: Callable[[], bool] = lambda: False


_TOLD = (ValueError, ToolError, CallInDoubt, RemoteUnavailable)


def _without_secrets(error: Exception, credentials: Credentials) -> Exception:
    """What the model is told: whoever answers may repeat what it was sent."""
    kind = type(error) if isinstance(error, CallInDoubt | RemoteUnavailable | ResultRefused) else ToolError
    return kind(credentials.hide(str(error)))


class Common(BaseModel):
    """Keys of every kind. `read_only` and `idempotent` left out mean what the kind can tell by itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    timeout_seconds: float = Field(default=10.0, gt=0)
    retries: int = Field(default=0, ge=0, le=10)
    concurrency: int = Field(default=16, ge=1)
    scopes: list[str] = Field(default=[])
    read_only: bool | None = None
    idempotent: bool | None = None

    def seconds(self, context: ToolContext, *, read_only: bool) -> float:
        """How long a call may take from now on: a deadline would leave one with side effects in doubt."""
        if context.deadline is None or not read_only:
            return self.timeout_seconds
        return max(0.0, min(self.timeout_seconds, context.deadline - time.monotonic()))


class Declaration(Common):
    """Keys of the kinds that declare one tool. `pick` is a JMESPath expression over the result."""

    description: str = Field(min_length=1)
    arguments: dict[str, Argument] = Field(default={})
    keywords: list[str] = Field(default=[])
    pick: str | None = None

    @field_validator("arguments")
    @classmethod
    def _identifiers(cls, arguments: dict[str, Argument]) -> dict[str, Argument]:
        if wrong := [name for name in arguments if not (name.isidentifier() and name.isascii())]:
            raise ValueError(f"{wrong[0]!r} is no name for an argument; use letters, digits and _")
        return arguments

    @field_validator("pick")
    @classmethod
    def _jmespath(cls, pick: str | None) -> str | None:
        if pick is not None:
            try:
                jmespath.compile(pick)
            except jmespath.exceptions.JMESPathError as error:
                raise ValueError(f"no JMESPath expression: {str(error).splitlines()[0]}") from None
        return pick

    def check_names(self, used: set[str], where: str) -> None:
        """Raises ValueError unless `used` are exactly the declared arguments."""
        if unknown := sorted(used - self.arguments.keys()):
            raise ValueError(f"{where} uses {unknown[0]!r}, which is not under `arguments`; declare it there")
        if unused := sorted(self.arguments.keys() - used):
            raise ValueError(f"argument {unused[0]!r} is used nowhere in {where}; use it or take it out")

    def tool(
        self,
        name: str,
        origin: str,
        call: Call,
        credentials: Credentials,
        *,
        read_only: bool,
        idempotent: bool = False,
    ) -> Tool:
        """The tool that runs `call`; ValueError from it is told the model. Raises ToolDeclarationError."""
        read_only = read_only if self.read_only is None else self.read_only
        return Tool(
            name=name,
            description=self.description,
            function=self._function(call, credentials),
            signature=SchemaSignature(object_schema(self.arguments), f"{origin}: arguments"),
            origin=origin,
            timeout=self.timeout_seconds,
            retries=self.retries,
            read_only=read_only,
            idempotent=read_only or (idempotent if self.idempotent is None else self.idempotent),
            scopes=frozenset(self.scopes),
            concurrency=self.concurrency,
            keywords=tuple(self.keywords),
        )

    def _function(self, call: Call, credentials: Credentials) -> Callable[..., Any]:
        def filled(values: dict[str, Any]) -> tuple[dict[str, Any], ToolContext]:
            context = values.pop(CONTEXT)
            return fill_in(self.arguments, values, context), context

        async def asynchronous(**values: Any) -> Any:
            try:
                return self._picked(await call(*filled(values)))
            except _TOLD as error:
                raise _without_secrets(error, credentials) from None

        def synchronous(**values: Any) -> Any:
            try:
                return self._picked(call(*filled(values)))
            except _TOLD as error:
                raise _without_secrets(error, credentials) from None

        return asynchronous if inspect.iscoroutinefunction(call) else synchronous

    def _picked(self, result: Any) -> Any:
        if self.pick is None:
            return result
        try:
            return jmespath.search(self.pick, result)
        except jmespath.exceptions.JMESPathError as error:
            raise ResultRefused(f"the result has another form than expected: {error}") from None
