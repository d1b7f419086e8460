"""A consumer whose requests call tools, in a process of its own, to be killed. The model is a script: a
request's value is the JSON list of the turns it decides on, `[["tool", …], …]`.

`python -m tests.kafka.tool_worker SETTINGS FOLDER`

Tools append a line to FOLDER/effects before they return; those named `…_hang` then hang while FOLDER/hang
exists. Prints `acted TOOL KEY` after that line is written. SIGTERM drains and stops.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

from daemon.errors import TooManyRounds
from daemon.kafka.envelope import Envelope
from daemon.kafka.record import Emit, Incoming, Outgoing
from daemon.kafka.replies import reply_record
from daemon.kafka.settings import KafkaSettings
from daemon.tools.context import ToolContext
from daemon.tools.executor import Executor
from daemon.tools.journal import Decision, Failure, Journal
from daemon.tools.registry import Registry, register_tool
from daemon.tools.saga import Saga
from schemas.errors import AutoGLMError
from tests.kafka.child import serve


def tools(folder: Path) -> Registry:
    effects = folder / "effects"

    def write(word: str, key: str) -> None:
        with effects.open("a") as file:
            file.write(f"{word} {key}\n")
        print("acted", word, key, flush=True)

    def declare(name: str, **options: object) -> None:
        def act(context: ToolContext) -> str:
            write(name, context.idempotency_key)
            while name.endswith("_hang") and (folder / "hang").exists():
                time.sleep(0.02)
            return context.idempotency_key

        register_tool(act, name=name, description="Act.", **options)

    def undo(arguments: object, result: str) -> None:
        write("undo", result)
        while (folder / "hang_undo").exists():
            time.sleep(0.02)

    def find(arguments: object, context: ToolContext) -> str | None:
        done = effects.read_text().splitlines() if effects.exists() else []
        return context.idempotency_key if f"asked_hang {context.idempotency_key}" in done else None

    with Registry().collecting() as registry:
        declare("plain")
        declare("plain_hang")
        declare("undoable", compensate=undo)
        declare("once_hang", idempotent=True)
        declare("asked_hang", reconcile=find)
    return registry


async def main(chosen: KafkaSettings, folder: Path) -> None:
    registry, executor = tools(folder), Executor()
    find = {tool.name: tool for tool in registry}.get

    async def turns(record: Incoming, saga: Saga, context: ToolContext) -> None:
        script = [[Decision(name=name, arguments={}) for name in turn] for turn in json.loads(record.value)]
        course = saga.resume()
        if course is not None:
            script = [list(course.calls), *script[course.round + 1 :]]
        for round_, turn in enumerate(script, course.round if course else 0):
            if turn[0].name == "fail":
                raise TooManyRounds
            await saga.act(round_, (), [(find(made.name), made) for made in turn], context)

    async def handler(record: Incoming, emit: Emit) -> list[Outgoing]:
        saga = Saga(executor, Journal(record.address, record.notes, record.attempt), find)
        failure, context = saga.failure, ToolContext()
        if failure is None:
            try:
                await turns(record, saga, context)
            except AutoGLMError as error:
                failure = Failure(status="error", error=error.body())
        if failure is not None:
            await saga.undo(failure, context)
        body = {
            "code": failure.error.code if failure else "ok",
            "tools": [[report.name, report.outcome, report.reused] for report in saga.reports()],
            "attempt": record.attempt,
        }
        return [reply_record(record, Envelope.of(record), chosen.reply_topic, json.dumps(body).encode())]

    await serve(chosen, handler)


if __name__ == "__main__":
    asyncio.run(main(KafkaSettings.model_validate(json.loads(sys.argv[1])), Path(sys.argv[2])))
