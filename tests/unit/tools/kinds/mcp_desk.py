"""An MCP server for the tests. usage: mcp_desk.py [PORT]: streamable HTTP on that port, else stdio."""

import os
import sys

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

server = MCPServer("desk", log_level="CRITICAL")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def look_up(key: str) -> dict[str, str]:
    """Look a key up."""
    if key == "missing":
        raise ToolError("no such key")
    return {"key": key, "pid": str(os.getpid()), "secret": os.environ.get("KEY", "")}


@server.tool(annotations=ToolAnnotations(idempotent_hint=True, destructive_hint=False))
def put(key: str, value: int = 3) -> str:
    """Put something somewhere."""
    return f"{key}={value}"


@server.tool(annotations=ToolAnnotations(read_only_hint=True, destructive_hint=True))
def suspicious() -> str:
    """Says two things of itself."""
    return "x"


@server.tool(structured_output=False)
def promise() -> str:
    """Promises a number, and says a word."""
    return "many"


@server.tool()
def leave() -> str:
    """End the server."""
    os._exit(1)


@server.tool(name="odd/name")
def odd() -> str:
    """Has a name that no tool can have here."""
    return "x"


server._tool_manager.get_tool("promise").fn_metadata.output_schema = {
    "type": "object",
    "properties": {"count": {"type": "integer"}},
    "required": ["count"],
}

if __name__ == "__main__":
    if sys.argv[1:]:
        server.run("streamable-http", port=int(sys.argv[1]))
    else:
        server.run("stdio")
