"""An MCP server without a library, which prints what is neither UTF-8 nor JSON beside its answers."""

import json
import sys

for line in sys.stdin:
    request = json.loads(line)
    answers = {
        "initialize": {"protocolVersion": request.get("params", {}).get("protocolVersion"),
                       "capabilities": {"tools": {}}, "serverInfo": {"name": "rude", "version": "1"}},
        "tools/list": {"tools": [{"name": "echo", "description": "d", "inputSchema": {"type": "object"}}]},
        "tools/call": {"content": [{"type": "text", "text": "heard"}]},
    }  # fmt: skip
    if "id" not in request:
        continue
    sys.stdout.buffer.write(b"served in the caf\xe9\n")
    answer = {"jsonrpc": "2.0", "id": request["id"], "result": answers.get(request["method"], {})}
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()
