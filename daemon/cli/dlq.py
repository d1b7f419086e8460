"""`autoglm dlq`: look at dead letters and give them back to the topics they came from."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daemon.cli.options import Config
from schemas.errors import AutoGLMError

if TYPE_CHECKING:
    from daemon.kafka.publishing.letters import Letter
    from daemon.kafka.record import Outgoing
    from daemon.kafka.settings import KafkaSettings

app = typer.Typer(help="Dead letters: requests that could not be answered well.", no_args_is_help=True)

Place = Annotated[
    str, typer.Argument(metavar="OFFSET", help="`PARTITION/OFFSET` as listed, or OFFSET alone.")
]


class NoSuchLetter(AutoGLMError):
    """There is no such dead letter; `autoglm dlq list` shows those there are."""


@app.command("list")
def list_(
    code: Annotated[str | None, typer.Option(help="Only those with this error code.")] = None,
    config: Config = None,
) -> None:
    """One line per letter: where it lies, when, why, where it came from."""
    found = [letter for letter in _read(_settings(config)) if code in (None, letter.code)]
    for letter in found:
        line = f"{letter.place:>8}  {_when(letter)}  {letter.code:<20} {letter.original}  {letter.message}"
        typer.echo(_printable(line).replace("\n", r"\n")[:200])
    typer.echo(f"{len(found)} dead letters", err=True)


@app.command()
def show(place: Place, config: Config = None) -> None:
    """Everything about one letter: why it died, its key, headers and value."""
    letter = _pick(_read(_settings(config)), [place])[0]
    typer.echo(f"letter    {letter.place}, {_when(letter)}")
    typer.echo(f"from      {_printable(letter.original)}")
    typer.echo(f"error     {_printable(f'{letter.code}: {letter.message}')}")
    typer.echo(f"attempts  {letter.attempts if letter.attempts is not None else '?'}")
    typer.echo(f"key       {_show(letter.key)}")
    for name, content in letter.own_headers:
        typer.echo(f"header    {_printable(name)}: {_show(content)}")
    typer.echo(f"value     {len(letter.value)} bytes{', cut' if letter.truncated else ''}")
    typer.echo(_show(letter.value))


@app.command()
def replay(
    places: Annotated[
        list[str] | None, typer.Argument(metavar="[OFFSET]...", help="Which letters, as `list` names them.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every letter there is.")] = False,
    config: Config = None,
) -> None:
    """Send letters back as they were: value, key and headers, to the topic and partition they came from.

    The letter stays where it is; replaying it again sends it again.
    """
    if bool(places) == all_:
        raise typer.BadParameter("name letters, or give --all")
    settings = _settings(config)
    letters = _read(settings)
    chosen = letters if all_ else _pick(letters, places or [])
    sent = asyncio.run(_replay(settings, chosen))
    typer.echo(f"{sent} of {len(chosen)} sent", err=True)
    if sent < len(chosen):
        raise typer.Exit(1)


async def _replay(settings: "KafkaSettings", letters: "Sequence[Letter]") -> int:
    from aiokafka.errors import KafkaError

    from daemon.cli.producing import producing
    from daemon.kafka.brokers.producer import send
    from daemon.kafka.partitions import all_partitions

    sent = 0
    async with producing(settings) as producer:
        there = await all_partitions(producer)
        for letter in letters:
            try:
                record = letter.revived()
                _check_place(record, there)
                written: Any = await (await send(producer, record))
            except (ValueError, KafkaError) as error:
                typer.echo(f"{letter.place}: not sent: {_printable(str(error))}", err=True)
                continue
            sent += 1
            late = "; its deadline has passed" if _late(letter) else ""
            typer.echo(f"{letter.place}: sent to {written.topic}/{written.partition}/{written.offset}{late}")
    return sent


def _check_place(record: "Outgoing", there: Mapping[str, Sequence[int]]) -> None:
    """Raises ValueError when there is no such topic or partition any more."""
    if record.topic not in there:
        raise ValueError(f"there is no topic {record.topic}; create it first")
    if record.partition not in (None, *there[record.topic]):
        raise ValueError(f"{record.topic} has no partition {record.partition}; add it first")


def _settings(config: Config) -> "KafkaSettings":
    from daemon.settings import load

    return load(config).kafka


def _read(settings: "KafkaSettings") -> "list[Letter]":
    from daemon.cli.failures import explained
    from daemon.kafka.publishing.letters import letters

    async def read() -> "list[Letter]":
        return [letter async for letter in letters(settings)]

    with explained(settings):
        return asyncio.run(read())


def _pick(letters: "Sequence[Letter]", places: Sequence[str]) -> "list[Letter]":
    chosen = []
    for place in places:
        found = [letter for letter in letters if place in (letter.place, str(letter.offset))]
        if not found:
            raise NoSuchLetter(f"There is no dead letter {place}; `autoglm dlq list` shows those there are.")
        if len(found) > 1:
            named = ", ".join(letter.place for letter in found)
            raise NoSuchLetter(f"Several dead letters have offset {place}: name one of {named}.")
        chosen.append(found[0])
    return chosen


def _late(letter: "Letter") -> bool:
    from daemon.kafka.envelope import Envelope
    from daemon.kafka.record import Incoming

    deadline = Envelope.of(Incoming("", 0, 0, None, None, letter.own_headers, 0)).deadline
    return deadline is not None and deadline <= time.time()


def _when(letter: "Letter") -> str:
    return datetime.fromtimestamp(letter.timestamp / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _show(value: bytes | None) -> str:
    """Text where it is text; else what Python calls the bytes."""
    if value is None:
        return "(none)"
    try:
        return _printable(value.decode())
    except UnicodeDecodeError:
        return repr(value)[2:-1]


def _printable(text: str) -> str:
    """Control characters of strangers do nothing to the operator's terminal."""
    return "".join(one if one.isprintable() or one == "\n" else repr(one)[1:-1] for one in text)
