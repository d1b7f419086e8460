"""`kind = "command"`: a program with arguments, started without a shell."""

import asyncio
import contextlib
import errno
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from daemon.tools.context import ToolContext
from daemon.tools.errors import CallInDoubt, ResultRefused, ToolError
from daemon.tools.kinds.credentials import Credentials
from daemon.tools.kinds.declaration import Declaration, Opened
from daemon.tools.kinds.template import as_text

_ERROR_BYTES = 2_000
# How long a program that has ended is listened to, twice, if something it left behind keeps its pipes open.
_LINGER_SECONDS = 0.25
_CODE_FLAGS = ("-c", "-e", "--eval", "--command", "-S")


class CommandDeclaration(Declaration):
    """Every element of `argv` stays one argument of the program, whatever the model puts into it; an element
    that is nothing but `{list}` becomes one per item. `environment` and the variables named in `inherit` are
    all the program gets. The limits hold for each process; all of them are killed when the call ends."""

    kind: Literal["command"]
    argv: list[str] = Field(min_length=1)
    stdin: str | None = None
    cwd: str = "/"
    environment: dict[str, str] = Field(default={})
    inherit: list[str] = Field(default=[])
    output: Literal["text", "json"] = "text"
    exit_statuses: list[int] = Field(default=[0])
    max_output_bytes: int = Field(default=65_536, ge=1)
    cpu_seconds: int = Field(default=10, ge=1)
    memory_bytes: int = Field(default=1 << 30, ge=1 << 20)

    def open(self, name: str, origin: str, credentials: Credentials) -> Opened:
        """Raises ValueError naming what is wrong."""
        program = _Program(self, credentials)
        return Opened((self.tool(name, origin, program.call, credentials, read_only=False),))


class _Program:
    def __init__(self, declaration: CommandDeclaration, credentials: Credentials) -> None:
        self._declaration, self._credentials = declaration, credentials
        self._reads = declaration.read_only is True
        self._argv = [credentials.template(text) for text in declaration.argv]
        self._stdin = None if declaration.stdin is None else credentials.template(declaration.stdin)
        used = {name for template in self._argv for name in template.names}
        declaration.check_names(used | (self._stdin.names if self._stdin else set()), "`argv` and `stdin`")
        program = declaration.argv[0]
        if self._argv[0].names or not Path(program).is_absolute():
            raise ValueError("`argv` must begin with the absolute path of a program")
        if shutil.which(program) is None:
            raise ValueError(f"`argv`: {program} is no program that can be run here; install it")
        if not Path(declaration.cwd).is_dir():
            raise ValueError(f"`cwd`: {declaration.cwd} is no directory; create it")
        for flag, template in zip(declaration.argv, self._argv[1:], strict=False):
            if flag in _CODE_FLAGS and template.names:
                raise ValueError(f"`argv`: an argument after {flag} would be run as code; pass it separately")
        # util-linux: sets the limits and becomes the program, so that nothing runs without them.
        prlimit = shutil.which("prlimit")
        if prlimit is None:
            raise ValueError("`command` tools need prlimit; install the package util-linux")
        self._limits = [prlimit, f"--cpu={declaration.cpu_seconds}", f"--as={declaration.memory_bytes}",
                        "--core=0", "--"]  # fmt: skip
        self._environment = {key: credentials.reveal(text) for key, text in declaration.environment.items()}

    async def call(self, values: dict[str, Any], context: ToolContext) -> Any:
        """What the program printed. Raises ToolError with the end of its messages when it fails, CallInDoubt
        when it was killed midway, ResultRefused when it succeeded and printed no JSON although it should."""
        declaration = self._declaration
        seconds = declaration.seconds(context, read_only=self._reads)
        argv, given = self._rendered(values), self._stdin.render(values) if self._stdin else None
        inherited = {key: os.environ[key] for key in declaration.inherit if key in os.environ}
        try:
            process = await asyncio.create_subprocess_exec(
                *self._limits,
                *argv,
                stdin=asyncio.subprocess.DEVNULL if given is None else asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=declaration.cwd,
                env=inherited | self._environment,
                start_new_session=True,
            )
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            raise ToolError("the arguments are longer than a program may get; ask for less") from None
        try:
            async with asyncio.timeout(seconds):
                output, errors = await self._finish(process, given)
        except TimeoutError:
            raise self._killed(f"stopped after {seconds:.3g} s") from None
        finally:
            _kill(process.pid)
            # Closes the pipes, also those that a process of another group still holds.
            process._transport.close()  # type: ignore[attr-defined]
            status = await process.wait()
        if status not in declaration.exit_statuses:
            told = self._credentials.hide(errors.decode(errors="replace").strip())
            ending = f"{_ending(status)}: {told}" if told else _ending(status)
            raise ToolError(ending) if status >= 0 else self._killed(ending)
        text = output.decode(errors="replace")
        if declaration.output == "text":
            return text
        try:
            return json.loads(text.removeprefix("\ufeff"))
        except ValueError:
            raise ResultRefused("the program's output is no JSON") from None

    async def _finish(
        self, process: asyncio.subprocess.Process, given: str | None
    ) -> tuple[bytearray, bytearray]:
        """What it printed and its messages, when it has ended."""
        assert process.stdout is not None and process.stderr is not None
        output, errors = bytearray(), bytearray()
        reading = asyncio.gather(
            self._read(process.stdout, output),
            _read_end(process.stderr, errors),
            _write(process.stdin, given),
        )
        exited = asyncio.ensure_future(_exit(process.pid))
        try:
            either: set[asyncio.Future[Any]] = {exited, reading}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()  # too much output: no point in waiting for the end
            await exited
            # What it left in the background would keep the pipes open; so does a daemon, which has left the
            # group, and what that says does not count.
            _kill(process.pid)
            ended = asyncio.gather(reading, process.wait())
            waits = 0
            # Twice: between the two, what it has said is read, however late this process itself is.
            while not ended.done() and (waits < 2 or process.returncode is None):
                await asyncio.wait({ended}, timeout=_LINGER_SECONDS)
                waits += 1
            if ended.done():
                ended.result()
            else:
                ended.cancel()
            return output, errors
        finally:
            reading.cancel()
            exited.cancel()
            await asyncio.gather(reading, exited, return_exceptions=True)

    async def _read(self, stream: asyncio.StreamReader, body: bytearray) -> None:
        while chunk := await stream.read(65_536):
            body += chunk
            if len(body) > self._declaration.max_output_bytes:
                raise self._killed(f"the output has more than {self._declaration.max_output_bytes} bytes")

    def _killed(self, why: str) -> Exception:
        """A program that did not come to its end may have done some of its work, or all."""
        return ToolError(why) if self._reads else CallInDoubt(why)

    def _rendered(self, values: dict[str, Any]) -> list[str]:
        """Raises ValueError for a value that the program would take for an option, and for NUL."""
        argv: list[str] = []
        options_ended = False
        for template, source in zip(self._argv, self._declaration.argv, strict=True):
            value = values[template.only] if template.only else None
            items = (
                [as_text(item) for item in value] if isinstance(value, list) else [template.render(values)]
            )
            for item in items:
                if item is None:
                    continue
                if template.starts_with_argument and item.startswith("-") and not options_ended:
                    raise ValueError(f"{item!r} begins with `-` and would be taken for an option")
                if "\0" in item:
                    raise ValueError("an argument has a NUL character in it")
                argv.append(item)
            options_ended = options_ended or source == "--"
        return argv


async def _exit(pid: int) -> None:
    """Returns when the process has ended, whoever still holds its pipes."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def _read_end(stream: asyncio.StreamReader, body: bytearray) -> None:
    while chunk := await stream.read(65_536):
        body += chunk
        del body[:-_ERROR_BYTES]


async def _write(stream: asyncio.StreamWriter | None, given: str | None) -> None:
    if stream is None or given is None:
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it need not read it all
        stream.write(given.encode(errors="replace"))
        await stream.drain()
    stream.close()


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:  # most real-time signals have no name
        return f"killed by signal {-status}"
