import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

TEXT = {"type": "string"}
PYTHON = os.path.realpath(sys.executable)
ECHO = "import sys; print(sys.argv[1:])"
NASTY = [
    "; id",
    "$(id)",
    "`id`",
    "a b",
    "x | y",
    "> /tmp/x",
    "*",
    "'",
    '"',
    "\n",
    "~",
    "$HOME",
    "\\",
    "{x}",
    "%s",
]


@pytest.fixture
def script(tmp_path):
    """script(code) → argv that runs it."""

    def script_(code, *more):
        file = tmp_path / f"script{abs(hash(code))}.py"
        file.write_text(code)
        return [PYTHON, "-I", str(file), *more]

    return script_


@pytest.mark.parametrize("value", NASTY)
async def test_a_value_is_one_argument(declare, call, script, value):
    tool = declare(kind="command", argv=script(ECHO, "--text={x}", "{x}"), arguments={"x": TEXT})
    assert not tool.read_only
    assert (await call(tool, {"x": value})).result == f"{[f'--text={value}', value]}\n"


async def test_values_are_no_options(declare, call, script):
    tool = declare(kind="command", argv=script(ECHO, "{x}"), arguments={"x": TEXT})
    assert "taken for an option" in (await call(tool, {"x": "--exec=id"})).result["error"]
    assert "taken for an option" in (await call(tool, {"x": "-"})).result["error"]
    assert "NUL" in (await call(tool, {"x": "a\0b"})).result["error"]
    behind = declare(kind="command", argv=script(ECHO, "--", "{x}"), arguments={"x": TEXT})
    assert (await call(behind, {"x": "-rf"})).result == "['--', '-rf']\n"


async def test_more_than_a_program_may_get(declare, call, script):
    tool = declare(kind="command", argv=script(ECHO, "{x}"), arguments={"x": TEXT})
    assert "longer than a program may get" in (await call(tool, {"x": "a" * 3_000_000})).result["error"]


async def test_lists_and_what_was_left_out(declare, call, script):
    tool = declare(kind="command", argv=script(ECHO, "{files}", "--depth={depth}"),
                   arguments={"files": {"type": "array", "items": TEXT},
                              "depth": {"type": "integer", "optional": True}})  # fmt: skip
    assert (await call(tool, {"files": ["a", "b c"]})).result == "['a', 'b c']\n"
    assert (await call(tool, {"files": [], "depth": 2})).result == "['--depth=2']\n"
    assert "taken for an option" in (await call(tool, {"files": ["a", "-x"]})).result["error"]


async def test_the_environment_is_what_was_declared(declare, call, script, monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET_OF_THE_DAEMON", "1")
    monkeypatch.setenv("WANTED", "yes")
    code = "import json, os; print(json.dumps([dict(os.environ), os.getcwd()]))"
    tool = declare(kind="command", argv=script(code), environment={"KEY": "{credential:token}"},
                   output="json", inherit=["WANTED"], cwd=str(tmp_path))  # fmt: skip
    environment, folder = (await call(tool)).result
    environment.pop("LC_CTYPE", None)  # the interpreter's own doing
    assert environment == {"KEY": "s3{cr}et", "WANTED": "yes"} and folder == str(tmp_path)


async def test_stdin_and_json(declare, call):
    tool = declare(
        kind="command", argv=["/bin/cat"], stdin="{x}", arguments={"x": TEXT}, output="json", pick="a[0]"
    )
    assert (await call(tool, {"x": '{"a": [7]}'})).result == 7
    assert (await call(tool, {"x": '\ufeff{"a": [7]}'})).result == 7
    unread = await call(tool, {"x": "no"})
    assert unread.outcome == "ok"
    assert unread.result == {"warning": "the call was made, but the program's output is no JSON"}


async def test_failures_say_why_without_the_secrets(declare, call, script):
    code = "import os, sys; sys.exit('cannot log in with ' + os.environ['KEY'])"
    tool = declare(kind="command", argv=script(code), environment={"KEY": "{credential:token}"})
    assert (await call(tool)).result == {"error": "exit status 1: cannot log in with ***"}
    fine = declare(kind="command", argv=["/bin/false"], exit_statuses=[0, 1])
    assert (await call(fine)).outcome == "ok"


async def test_limits_hold(declare, call, script):
    memory = declare(
        kind="command", argv=script("x = bytearray(1 << 30); print(len(x))"), memory_bytes=300 << 20
    )
    assert "MemoryError" in (await call(memory)).result["error"]
    busy = declare(kind="command", argv=script("while True: pass"), cpu_seconds=1)
    started = time.monotonic()
    assert "killed by" in (await call(busy)).result["error"] and time.monotonic() - started < 9
    loud = declare(kind="command", argv=["/usr/bin/yes"], max_output_bytes=1000)
    assert "more than 1000 bytes" in (await call(loud)).result["error"]


@pytest.mark.parametrize(("read_only", "outcome"), [(False, "unknown"), (True, "error")])
async def test_whether_a_program_that_was_killed_acted_is_unknown(declare, call, script, read_only, outcome):
    kill = script("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    killed = await call(declare(kind="command", argv=kill, read_only=read_only))
    assert killed.outcome == outcome and killed.result == {"error": "killed by SIGKILL"}
    code = script("import os, signal; os.kill(os.getpid(), signal.SIGRTMIN + 1)")
    nameless = await call(declare(kind="command", argv=code, read_only=read_only))
    assert nameless.outcome == outcome and nameless.result["error"].startswith("killed by signal ")
    loud = declare(kind="command", argv=["/usr/bin/yes"], max_output_bytes=1000, read_only=read_only)
    assert (await call(loud)).outcome == outcome


async def test_a_deadline_stops_only_what_reads(declare, call):
    slow = ["/bin/sleep", "1"]
    acting = await call(declare(kind="command", argv=slow), deadline=time.monotonic() + 0.5)
    assert acting.outcome == "ok"
    reading = await call(declare(kind="command", argv=slow, read_only=True), deadline=time.monotonic() + 0.5)
    assert reading.outcome in ("error", "timeout") and reading.duration_ms < 900


FORK = "import subprocess, sys, time; subprocess.Popen(['/bin/sleep', '{}'])\nprint('done', flush=True)\n"


async def _gone(marker):
    for _ in range(100):
        if not [one for one in psutil.process_iter(["cmdline"]) if marker in (one.info["cmdline"] or [])]:
            return True
        await asyncio.sleep(0.05)
    return False


async def test_nothing_is_left_behind(declare, call, script):
    done = declare(kind="command", argv=script(FORK.format("3601.1")))
    assert (await call(done)).result == "done\n"
    assert await _gone("3601.1")
    late = declare(kind="command", argv=script(FORK.format("3601.2") + "time.sleep(60)"), timeout_seconds=1)
    assert (await call(late)).outcome in ("timeout", "unknown")
    assert await _gone("3601.2")
    cancelled = declare(kind="command", argv=script(FORK.format("3601.3") + "time.sleep(60)"))
    task = asyncio.create_task(call(cancelled))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await _gone("3601.3")


async def test_a_program_that_leaves_a_daemon_behind_has_ended(declare, call, script, tmp_path):
    pid = tmp_path / "pid"
    code = (
        "import subprocess, sys\n"
        "left = subprocess.Popen(['/bin/sleep', '3601.4'], start_new_session=True)\n"
        f"open({str(pid)!r}, 'w').write(str(left.pid))\n"
        "print('started', flush=True)\nsys.exit(3)"
    )
    tool = declare(kind="command", argv=script(code), exit_statuses=[0, 3], timeout_seconds=8)
    try:
        execution = await call(tool)
        assert (execution.outcome, execution.result) == ("ok", "started\n")
        assert execution.duration_ms < 7000
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"argv": ["cat"]}, "absolute path"),
        ({"argv": ["{x}"], "arguments": {"x": TEXT}}, "absolute path"),
        ({"argv": ["/nowhere/cat"]}, "no program that can be run here"),
        ({"argv": ["/bin/sh", "-c", "echo {x}"], "arguments": {"x": TEXT}}, "run as code"),
        ({"argv": ["/bin/cat", "{y}"]}, "'y', which is not under `arguments`"),
        ({"argv": ["/bin/cat"], "cwd": "/nowhere"}, "no directory"),
    ],
)
async def test_what_is_wrong_is_told_when_it_is_declared(declare, table, complaint):
    with pytest.raises(ValueError, match=complaint):
        declare(kind="command", **table)


def test_the_programs_used_here_are_there():
    assert Path("/bin/cat").exists() and Path("/usr/bin/yes").exists()
