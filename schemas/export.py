"""Write the wire contract for other languages: JSON Schema 2020-12 per record and one AsyncAPI 3 document.

usage: python -m schemas.export [--check]
"""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from schemas.control import Cancel, LoadEngine, Reload, RetireEngine
from schemas.errors import ErrorBody
from schemas.event import MetricsSnapshot, ToolAudit
from schemas.reply import Delta, Reply
from schemas.request import Request

FOLDER = Path(__file__).parent / "json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
RECORDS: dict[str, Any] = {
    "request": Request,
    "reply": Reply,
    "delta": Delta,
    "metrics": MetricsSnapshot,
    "audit": ToolAudit,
    "cancel": Cancel,
    "reload": Reload,
    "load_engine": LoadEngine,
    "retire_engine": RetireEngine,
    "error": ErrorBody,
}
ORDERS = ("cancel", "reload", "load_engine", "retire_engine")
WRITTEN_BY_OTHERS = ("request", *ORDERS)

HEADERS = {
    "correlation-id": "Repeated on every record that answers the request.",
    "reply-topic": "Where the reply goes; left out: the daemon's default reply topic.",
    "deadline": "When the answer is worthless: RFC 3339 time, or milliseconds since the epoch.",
    "priority": "Integer; higher is served first. Default 0.",
    "traceparent": "W3C trace context.",
    "tenant": "On whose account the request runs; tools may be granted to some tenants only, and when more "
    "requests wait than fit, tenants take turns. Left out, `user_id`, else the key, takes the turn.",
}


def documents() -> dict[str, dict[str, Any]]:
    """File name → document, for every file of `schemas/json`."""
    files = {
        f"{name}.schema.json": {
            "$schema": DIALECT,
            # Described as a producer writes it or, where the daemon writes it, as a consumer reads it.
            **TypeAdapter(model).json_schema(
                mode="validation" if name in WRITTEN_BY_OTHERS else "serialization"
            ),
        }
        for name, model in RECORDS.items()
    }
    files["asyncapi.json"] = asyncapi()
    return files


def asyncapi() -> dict[str, Any]:
    """The topics and who may do what there (https://www.asyncapi.com/docs/reference/specification/v3.0.0)."""

    def message(name: str, headers: bool = False) -> dict[str, Any]:
        body: dict[str, Any] = {
            "name": name,
            "contentType": "application/json",
            "payload": {"schemaFormat": f"application/schema+json;version={DIALECT}",
                        "schema": {"$ref": f"./{name}.schema.json"}},
        }  # fmt: skip
        if headers:
            properties = {key: {"type": "string", "description": text} for key, text in HEADERS.items()}
            body["headers"] = {"type": "object", "properties": properties}
        return body

    def channel(address: str, text: str, *messages: str) -> dict[str, Any]:
        return {
            "address": address,
            "description": text,
            "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        }

    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Open-AutoGLM",
            "version": "1.0.0",
            "description": "Requests in, exactly one reply each out. Topic names are settings.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "requests": channel(
                "autoglm.requests", "Key: the conversation; one key stays in order.", "request"
            ),
            "replies": channel(
                "autoglm.replies", "Deltas while streaming, then one reply.", "reply", "delta"
            ),
            "control": channel(
                "autoglm.control", "Key: none, or the request's. Every daemon reads all of it.", *ORDERS
            ),
            "metrics": channel("autoglm.metrics", "A snapshot every few seconds.", "metrics"),
            "audit": channel("autoglm.audit", "Key: the request's id. One per executed tool call.", "audit"),
        },
        "operations": {
            "receiveRequest": {
                "action": "receive",
                "channel": {"$ref": "#/channels/requests"},
                "reply": {"channel": {"$ref": "#/channels/replies"}},
            },
            "receiveControl": {"action": "receive", "channel": {"$ref": "#/channels/control"}},
            "sendMetrics": {"action": "send", "channel": {"$ref": "#/channels/metrics"}},
            "sendAudit": {"action": "send", "channel": {"$ref": "#/channels/audit"}},
        },
        "components": {
            "messages": {
                "request": message("request", headers=True),
                "reply": message("reply"),
                "delta": message("delta"),
                **{order: message(order) for order in ORDERS},
                "metrics": message("metrics"),
                "audit": message("audit"),
            }
        },
    }


def stale() -> list[str]:
    """Names of checked-in files that differ from what the models say now."""
    texts = {name: _text(document) for name, document in documents().items()}
    present = {path.name for path in FOLDER.glob("*.json")}
    changed = {
        name for name, text in texts.items() if name in present and (FOLDER / name).read_text() != text
    }
    return sorted(changed | (set(texts) ^ present))


def write() -> None:
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.json"):
        path.unlink()
    for name, document in documents().items():
        (FOLDER / name).write_text(_text(document))


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        if names := stale():
            sys.exit(f"stale in schemas/json: {', '.join(names)}; run: python -m schemas.export")
    else:
        write()
