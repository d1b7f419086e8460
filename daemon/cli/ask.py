"""`autoglm ask`: put one request on the queue and print what comes back."""

import asyncio
import json
import sys
from typing import Annotated, Any

import typer

from daemon.cli.options import Config, sendable

TIMEOUT_SECONDS = 60.0


def ask(
    text: Annotated[str, typer.Argument(help="What to ask.", callback=sendable)],
    user: Annotated[
        str | None, typer.Option(help="On whose behalf: `user_id` of the request.", callback=sendable)
    ] = None,
    tools: Annotated[
        str | None, typer.Option(help="Tools to offer: a,b. Default: all; '' for none.", callback=sendable)
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="Record key: the conversation, for order and memory.", callback=sendable),
    ] = None,
    fields: Annotated[
        str, typer.Option(help='More of the request, a JSON object: \'{"task": "summarize"}\'.')
    ] = "{}",
    stream: Annotated[bool, typer.Option("--stream", help="Print tokens as they come.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole reply.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the reply.")] = TIMEOUT_SECONDS,
    config: Config = None,
) -> None:
    """Send a request to a running daemon and print the reply."""
    from daemon.settings import load

    request: dict[str, Any] = {"query": text, "stream": stream}
    if user:
        request["user_id"] = user
    if tools is not None:
        request["tools"] = [name for name in tools.split(",") if name]
    sys.exit(asyncio.run(_ask(load(config), request | _object(fields), key, as_json, timeout)))


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint="--fields") from error
    if not isinstance(value, dict):
        raise typer.BadParameter('not an object; write {"name": value}', param_hint="--fields")
    return value


async def _ask(settings: Any, request: dict[str, Any], key: str | None, as_json: bool, timeout: float) -> int:
    from daemon.cli.failures import explained
    from daemon.kafka.client import Client
    from schemas.reply import Delta

    kafka = settings.kafka
    client = Client(kafka.connection(), kafka.request_topics[0], kafka.reply_topic)
    with explained(kafka):
        async with client:
            mine = await client.send(request, key=key)
            streamed = False
            async for correlation, record in client.records(timeout):
                if correlation != mine:
                    continue
                if isinstance(record, Delta):
                    streamed = streamed or bool(record.content)
                    print(record.content or f"[{record.tool}] ", end="", flush=True)
                    continue
                if as_json:
                    print(record.model_dump_json(indent=2, exclude_none=True))
                elif record.error:
                    print(f"autoglm: {record.status}: {record.error.message}", file=sys.stderr)
                elif streamed:
                    print()
                elif record.structured is not None:
                    print(json.dumps(record.structured, ensure_ascii=False))
                else:
                    print(record.message.content if record.message else "")
                return 0 if record.status == "ok" else 1
    print(f"autoglm: no reply within {timeout:g} s; is the daemon up? (make run)", file=sys.stderr)
    return 1
