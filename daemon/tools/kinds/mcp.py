"""`kind = "mcp"`: every tool of a Model Context Protocol server (https://modelcontextprotocol.io)."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from mcp_types import Tool as McpTool
from pydantic import Field, model_validator

from daemon.tools.errors import ToolDeclarationError, ToolError
from daemon.tools.kinds.credentials import Credentials
from daemon.tools.kinds.declaration import Common, Opened
from daemon.tools.kinds.mcp_server import McpServer
from daemon.tools.schema_signature import CONTEXT, SchemaSignature
from daemon.tools.tool import Tool


class McpDeclaration(Common):
    """Either `argv` (a server over stdio) or `url` (streamable HTTP). The tools that a pattern of `include`
    matches appear as `prefix` and their name; the default prefix is the table's name and `_`.

    What the server says of a tool (readOnlyHint, destructiveHint, idempotentHint) counts unless `read_only`
    or `idempotent` are set; `retries` hold for the tools that may be run twice. `keywords` are by the
    server's names.
    """

    kind: Literal["mcp"]
    argv: list[str] | None = Field(default=None, min_length=1)
    cwd: str | None = None
    environment: dict[str, str] = Field(default={})
    url: str | None = None
    headers: dict[str, str] = Field(default={})
    prefix: str | None = None
    include: list[str] = Field(default=["*"])
    keywords: dict[str, list[str]] = Field(default={})
    connect_seconds: float = Field(default=15.0, gt=0)

    @model_validator(mode="after")
    def _one_transport(self) -> "McpDeclaration":
        if (self.argv is None) == (self.url is None):
            raise ValueError("give either `argv` or `url`")
        if self.argv is not None and not Path(self.argv[0]).is_absolute():
            raise ValueError("`argv` must begin with the absolute path of a program")
        return self

    async def open(self, name: str, origin: str, credentials: Credentials) -> Opened:
        """Connects. Raises ValueError naming what is wrong; a tool that cannot be offered is a problem."""
        server = McpServer(
            argv=[credentials.reveal(text) for text in self.argv or []],
            cwd=self.cwd,
            environment={key: credentials.reveal(text) for key, text in self.environment.items()},
            url=credentials.reveal(self.url or ""),
            headers={key: credentials.reveal(text) for key, text in self.headers.items()},
            connect_seconds=self.connect_seconds,
        )
        offered = await server.start()
        try:
            tools, problems = self._tools(name, offered, origin, server, credentials)
        except BaseException:
            await server.stop()
            raise
        return Opened(tools, server.stop, problems, lambda: server.changed)

    def _tools(
        self, name: str, offered: list[McpTool], origin: str, server: McpServer, credentials: Credentials
    ) -> tuple[tuple[Tool, ...], tuple[str, ...]]:
        """Those that can be offered, and what is wrong with the others."""
        tools, problems = [], []
        for unknown in sorted(self.keywords.keys() - {listed.name for listed in offered}):
            problems.append(
                f"{origin}: `keywords` names {unknown!r}, which the server does not have; drop it."
            )
        for listed in offered:
            if any(fnmatchcase(listed.name, pattern) for pattern in self.include):
                try:
                    prefix = f"{name}_" if self.prefix is None else self.prefix
                    tools.append(self._tool(prefix, listed, origin, server, credentials))
                except ToolDeclarationError as error:
                    problems.append(str(error))
        return tuple(tools), tuple(problems)

    def _tool(
        self, prefix: str, listed: McpTool, origin: str, server: McpServer, credentials: Credentials
    ) -> Tool:
        hints = listed.annotations
        # A server that says both is believed the worse of the two.
        reads = bool(hints and hints.read_only_hint and not hints.destructive_hint)
        read_only = reads if self.read_only is None else self.read_only
        repeatable = bool(hints and hints.idempotent_hint)
        idempotent = read_only or (repeatable if self.idempotent is None else self.idempotent)
        where = f"{origin}: {listed.name}"

        async def call(**values: Any) -> Any:
            context = values.pop(CONTEXT)
            try:
                return await server.call(listed.name, values, self.seconds(context, read_only=read_only))
            except ValueError as error:
                raise ToolError(credentials.hide(str(error))) from None

        return Tool(
            name=prefix + listed.name,
            description=listed.description or listed.title or "",
            function=call,
            signature=SchemaSignature(listed.input_schema, where),
            origin=where,
            timeout=self.timeout_seconds,
            retries=self.retries if idempotent else 0,
            read_only=read_only,
            idempotent=idempotent,
            scopes=frozenset(self.scopes),
            concurrency=self.concurrency,
            keywords=tuple(self.keywords.get(listed.name, ())),
        )
