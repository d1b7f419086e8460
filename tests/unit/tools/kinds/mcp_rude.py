"""An MCP server without a library. It answers calls with their arguments, and prints garbage in between."""

import json
import sys

for line in sys.stdin:
    request = json.loads(line)
    given = request.get("params", {}).get("arguments")
    answers = {
        "initialize": {"protocolVersion": request.get("params", {}).get("protocolVersion"),
                       "capabilities": {"tools": {}}, "serverInfo": {"name": "rude", "version": "1"}},
        "tools/list": {"tools": [{"name": "echo", "description": "d", "inputSchema": {"type": "object"}}]},
        "tools/call": given or {"content": [{"type": "text", "text": "heard"}]},
    }  # fmt: skip
    if "id" not in request:
        continue
    sys.stdout.buffer.write(b"served in the caf\xe9\n")
    answer = {"jsonrpc": "2.0", "id": request["id"], "result": answers.get(request["method"], {})}
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()
