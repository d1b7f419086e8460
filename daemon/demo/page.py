"""How the demo puts one exchange, and the sums of all, on the terminal."""

import json
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from daemon.ops.metrics import percentile
from schemas.reply import Reply


def scene(console: Console, who: str, text: str, reply: Reply) -> None:
    """Print who asked what, what the model decided and did, and what it said."""
    console.print(f"[bold]{escape(who)}[/bold] asks: [bold cyan]{escape(text)}[/bold cyan]", soft_wrap=True)
    if reply.intent:
        decision = "call " + ", ".join(reply.intent.tools) if reply.intent.tools else "answer"
        _line(console, "intent", decision)
    for report in reply.tools:
        arguments = ", ".join(f"{name}={_json(value)}" for name, value in report.arguments.items())
        _line(console, "call", f"{report.name}({arguments})")
        _line(console, "result", _json(report.result))
    if reply.error:
        _line(console, "error", f"{reply.error.code}: {reply.error.message}", "red")
    elif reply.message and reply.message.content:
        _line(console, "reply", reply.message.content, "green")
    spent = reply.timings
    steps = [("queue", spent.queue_ms), ("prefill", spent.prefill_ms), ("first token", spent.first_token_ms)]
    steps += [("decode", spent.decode_ms), ("tools", spent.tools_ms), ("total", spent.total_ms)]
    timings = " · ".join(f"{name} {value:.0f} ms" for name, value in steps if value is not None)
    _line(console, "timings", timings, "dim")
    console.print()


def summary(console: Console, replies: list[Reply], seconds: float) -> None:
    """Print the sums: `seconds` is the wall time from the first request to the last reply."""
    tokens = sum(reply.usage.completion_tokens for reply in replies)
    totals = [reply.timings.total_ms for reply in replies]
    table = Table("requests", "ok", "tokens", "tokens/s", "p50", "p99")
    table.add_row(
        str(len(replies)),
        str(sum(reply.status == "ok" for reply in replies)),
        str(tokens),
        f"{tokens / seconds:.0f}" if seconds else "–",
        f"{percentile(totals, 0.5):.0f} ms",
        f"{percentile(totals, 0.99):.0f} ms",
    )
    console.print(table)
    console.print(
        "Ask your own question:  [bold]make run[/bold]  in one terminal, then in another\n"
        '  [bold].venv/bin/autoglm ask "Where is order A1001?" --stream[/bold]'
    )


def _line(console: Console, name: str, text: str, style: str = "default") -> None:
    console.print(f"  [dim]{name:<8}[/dim] [{style}]{escape(text)}[/{style}]", soft_wrap=True)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
