import asyncio
import os
import sqlite3
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.tools import grammar, plugins
from daemon.tools.catalog import Catalog
from daemon.tools.executor import Executor
from daemon.tools.kinds.declaration import Opened
from daemon.tools.kinds.http import HttpDeclaration
from daemon.tools.kinds.mcp import McpDeclaration
from daemon.tools.registry import Registry, register_tool

PLUGIN = """
from dataclasses import dataclass
from openautoglm import register_tool

@dataclass
class Place:
    city: str

@register_tool(description="d")
def {name}(place: Place) -> str:
    return "{answer}"
"""
PLACE = {"place": {"city": "x"}}


def declared(database, *names, answer=1):
    return "".join(
        f'[tools.{name}]\nkind = "sql"\ndescription = "d"\ndatabase = "sqlite:///{database}"\n'
        f'statement = "SELECT {answer} AS x"\npick = "rows[0].x"\n'
        for name in names
    )


@pytest.fixture
def folders(tmp_path):
    for name in ("tools.d", "plugins.d"):
        (tmp_path / name).mkdir()
    sqlite3.connect(tmp_path / "x.db").close()
    return tmp_path


@pytest.fixture
async def catalog(folders):
    catalog = Catalog(Registry(), (folders / "tools.d",), (folders / "plugins.d",), entry_points=False)
    yield catalog
    await catalog.close()


async def answer(registry, name, arguments=None):
    return (await Executor().run(registry.get(name), arguments or {})).result


async def test_tools_come_change_and_go(catalog, folders):
    assert await catalog.reload() == [] and catalog.registry.names() == []
    file, plugin = folders / "tools.d/shop.toml", folders / "plugins.d/mine.py"
    file.write_text(declared(folders / "x.db", "a", "b"))
    plugin.write_text(PLUGIN.format(name="c", answer="one"))
    assert await catalog.reload() == [] and catalog.registry.names() == ["c", "a", "b"]
    assert await answer(catalog.registry, "c", PLACE) == "one"
    kept = catalog.registry.get("a")
    # Same size, same second: bytecode of the old version must not be taken.
    plugin.write_text(PLUGIN.format(name="c", answer="two"))
    file.write_text(declared(folders / "x.db", "a") + declared(folders / "x.db", "b", answer=2))
    await catalog.reload()
    assert await answer(catalog.registry, "c", PLACE) == "two" and await answer(catalog.registry, "b") == 2
    assert catalog.registry.get("a") is kept
    plugin.unlink()
    file.write_text(declared(folders / "x.db", "b"))
    await catalog.reload()
    assert catalog.registry.names() == ["b"]


async def test_what_is_broken_is_refused_and_the_rest_goes_on(catalog, folders):
    (folders / "plugins.d/bad.py").write_text("raise OSError('no licence')")
    (folders / "plugins.d/schema.py").write_text(
        "from openautoglm import register_tool\n@register_tool\ndef t(x):\n  '''d'''\n"
    )
    (folders / "plugins.d/good.py").write_text(PLUGIN.format(name="good", answer="x"))
    (folders / "tools.d/1.toml").write_text(declared(folders / "x.db", "fine", "good") + "typo = 1\n")
    (folders / "tools.d/2.toml").write_text("[[[")
    (folders / "tools.d/3.toml").write_text(declared(folders / "x.db", "fine", "last"))
    problems = "\n".join(await catalog.reload())
    assert catalog.registry.names() == ["good", "fine", "last"]
    for told in ("OSError: no licence", "parameter x has no type hint", "`tools.good.typo`: unknown key",
                 "2.toml: cannot be read", "'fine' is declared twice"):  # fmt: skip
        assert told in problems
    assert len(problems.splitlines()) == 5
    # What is still wrong is still told, but not tried again before it changes.
    assert "\n".join(await catalog.reload()) == problems


async def test_a_tool_that_no_model_could_call_is_refused_by_itself(catalog, folders):
    plugin, file = folders / "plugins.d/mine.py", folders / "tools.d/a.toml"
    plugin.write_text(
        PLUGIN.format(name="good", answer="x")
        + "@register_tool(description='d')\ndef tag(words: set[str]) -> None: ...\n"
    )
    table = declared(folders / "x.db", "a", answer=":name")
    file.write_text(table + '[tools.a.arguments.name]\ntype = "string"\n')
    (problem,) = await catalog.reload()
    assert catalog.registry.names() == ["good", "a"]
    assert problem.startswith(f"tool 'tag' ({plugin}:") and 'Unimplemented keys: ["uniqueItems"]; ' in problem
    kept = catalog.registry.get("a")
    file.write_text(table + "[tools.a.arguments.name]\ntype = \"string\"\npattern = '^(?=.*a).+$'\n")
    (_, problem) = await catalog.reload()
    assert catalog.registry.get("a") is kept
    assert problem.startswith(f"tool 'a' ({file}: tools.a)") and "look-around" in problem


async def test_a_tool_is_looked_at_once(catalog, folders, monkeypatch):
    looked, check = [], grammar.check
    monkeypatch.setattr(grammar, "check", lambda tool: looked.append(tool.name) or check(tool))
    file = folders / "tools.d/shop.toml"
    file.write_text(declared(folders / "x.db", "a"))
    await catalog.reload()
    file.write_text(declared(folders / "x.db", "a", "b"))
    await catalog.reload()
    assert looked == ["a", "b"]


async def test_a_broken_edit_leaves_what_worked(catalog, folders):
    file, plugin = folders / "tools.d/a.toml", folders / "plugins.d/mine.py"
    file.write_text(declared(folders / "x.db", "a"))
    plugin.write_text(PLUGIN.format(name="c", answer="one"))
    await catalog.reload()
    modules = set(sys.modules)
    for broken in ("[tools.a", '[tools.a]\nkind = "sql"'):
        file.write_text(broken)
        plugin.write_text("import nowhere_to_be_found")
        assert len(await catalog.reload()) >= 2
        assert (
            await answer(catalog.registry, "a") == 1 and await answer(catalog.registry, "c", PLACE) == "one"
        )
    assert set(sys.modules) == modules


async def test_requests_in_flight_keep_what_they_started_with(catalog, folders):
    file = folders / "tools.d/a.toml"
    file.write_text(declared(folders / "x.db", "a"))
    await catalog.reload()
    closed = []
    (part,) = catalog._parts.values()
    close = part.opened.close

    async def closing():
        closed.append(True)
        await close()

    object.__setattr__(part.opened, "close", closing)
    with catalog.registry.lease() as registry:
        file.unlink()
        await catalog.reload()
        await asyncio.sleep(0)
        assert catalog.registry.names() == [] and not closed
        assert await answer(registry, "a") == 1
    await asyncio.sleep(0.01)
    assert closed == [True]


async def test_changes_are_seen_without_being_told(folders):
    seen = asyncio.Queue()
    catalog = Catalog(Registry(), (folders / "tools.d",), (folders / "plugins.d",), False, seen.put_nowait)
    watching = asyncio.create_task(catalog.watch(0.02, asyncio.Event()))
    (folders / "tools.d/a.toml").write_text(declared(folders / "x.db", "a"))
    async with asyncio.timeout(10):
        while "a" not in (await seen.get()):
            pass
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await catalog.close()


async def test_a_package_in_the_folder(catalog, folders):
    package = folders / "plugins.d/pack"
    package.mkdir()
    (package / "__init__.py").write_text("from . import inner\n")
    (package / "inner.py").write_text(PLUGIN.format(name="deep", answer="1"))
    assert await catalog.reload() == [] and catalog.registry.names() == ["deep"]
    (package / "inner.py").write_text(PLUGIN.format(name="deeper", answer="more"))
    assert await catalog.reload() == [] and catalog.registry.names() == ["deeper"]


def distribution(site, version, code):
    info = site / "acme-1.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme\nVersion: {version}\n")
    (info / "entry_points.txt").write_text("[openautoglm.tools]\nacme = acme_tools.desk:register\n")
    (info / "RECORD").write_text("acme_tools/desk.py,,\nacme_tools/__init__.py,,\n")
    (site / "acme_tools").mkdir(exist_ok=True)
    (site / "acme_tools/__init__.py").write_text("")
    (site / "acme_tools/desk.py").write_text(code)
    return info


async def test_installed_plugins(folders, monkeypatch):
    site = folders / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    code = "def register():\n    pass\n" + PLUGIN
    info = distribution(site, "1.0", code.format(name="ours", answer="one"))
    catalog = Catalog(Registry())
    assert await catalog.reload() == [] and catalog.registry.names() == ["ours"]
    tool = catalog.registry.get("ours")
    await catalog.reload()
    assert catalog.registry.get("ours") is tool
    distribution(site, "2.0", code.format(name="ours", answer="number two"))
    assert await catalog.reload() == []
    assert await answer(catalog.registry, "ours", PLACE) == "number two"
    assert (await Executor().run(tool, PLACE)).result == "one"
    for file in info.iterdir():
        file.unlink()
    info.rmdir()
    await catalog.reload()
    assert catalog.registry.names() == []
    await catalog.close()


def test_a_registry_is_released_when_its_last_lease_ends():
    with Registry().collecting() as registry:

        @register_tool(description="d")
        def t() -> None: ...

    released = []
    with registry.lease(), registry.lease():
        registry.retire(lambda: released.append(True))
        assert not released
    assert released == [True]
    assert registry.only(lambda tool: False).names() == [] and registry.names() == ["t"]


async def test_a_plugin_that_hangs_holds_nobody_up(catalog, folders, monkeypatch):
    monkeypatch.setattr(plugins, "_LOAD_SECONDS", 0.2)
    (folders / "plugins.d/a_hanging.py").write_text("import time\ntime.sleep(2)\n")
    (folders / "plugins.d/mine.py").write_text(PLUGIN.format(name="c", answer="one"))
    (problem,) = await asyncio.wait_for(catalog.reload(), 1.5)
    assert "a_hanging.py was still being loaded after 0.2 s" in problem
    assert catalog.registry.names() == ["c"]


async def test_whatever_goes_wrong_at_a_source_the_rest_goes_on(catalog, folders, monkeypatch):
    file, plugin = folders / "tools.d/shop.toml", folders / "plugins.d/mine.py"
    plugin.write_text(PLUGIN.format(name="c", answer="one"))
    file.write_text(
        declared(folders / "x.db", "a")
        + '[tools.b]\nkind = "http"\ndescription = "d"\nurl = "https://host/"\n'
    )

    def breaks(*arguments):
        raise MemoryError("no room")

    monkeypatch.setattr(HttpDeclaration, "open", breaks)
    (problem,) = await catalog.reload()
    assert catalog.registry.names() == ["c", "a"]
    assert "tools.b" in problem and "MemoryError: no room" in problem and problem.endswith("mend it there.")
    iterdir = type(folders).iterdir

    def closed(path):
        if path.name in ("plugins.d", "tools.d"):
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(type(folders), "iterdir", closed)
    problems = await catalog.reload()
    for name in ("plugins.d", "tools.d"):
        assert any(problem.startswith(f"{folders / name}: cannot be read: ") for problem in problems)
    assert set(catalog.registry.names()) == {"c", "a"}  # what was there stays


@pytest.mark.parametrize("error", [FileNotFoundError(2, "gone"), PermissionError(13, "closed")])
def test_what_cannot_be_looked_at_changes_the_stamp_and_raises_nothing(folders, monkeypatch, error):
    """As happens when a folder goes away or is closed during the walk."""
    pack = folders / "plugins.d/pack"
    pack.mkdir()
    for file in (pack / "inner.py", folders / "plugins.d/mine.py"):
        file.write_text("")

    def refusing(function):
        def refuse(path, **options):
            if str(path) == str(pack):
                raise error
            return function(path, **options)

        return refuse

    both = plugins.stamp([folders / "plugins.d"])
    monkeypatch.setattr(os, "scandir", refusing(os.scandir))
    left = plugins.stamp([folders / "plugins.d"])
    assert left and left != both and plugins.stamp([pack]) == ""
    monkeypatch.setattr(os, "stat", refusing(os.stat))
    assert plugins.stamp([pack]) == ""


@pytest.fixture
def opened(monkeypatch):
    """How often a source of its kind was opened, and how often what was opened was closed."""
    counts = {"opened": 0, "closed": 0}

    async def close():
        counts["closed"] += 1

    async def open_(declared, name, origin, credentials):
        counts["opened"] += 1
        tool = replace(register(name), origin=origin)
        return Opened((tool,), close)

    monkeypatch.setattr(McpDeclaration, "open", open_)
    return counts


def register(name):
    with Registry().collecting() as registry:
        register_tool(lambda: 1, name=name, description="d")
    return registry.get(name)


SERVER = '[tools.{}]\nkind = "mcp"\nargv = ["/bin/true"]\n'


async def test_a_file_that_is_named_twice_is_opened_once(folders, opened):
    file = folders / "tools.d/a.toml"
    file.write_text(SERVER.format("a"))
    catalog = Catalog(Registry(), (folders / "tools.d", file), entry_points=False)
    assert await catalog.reload() == [] and catalog.registry.names() == ["a"]
    await catalog.close()
    assert opened == {"opened": 1, "closed": 1}


async def test_what_a_reload_that_breaks_off_has_opened_is_closed(catalog, folders, opened, monkeypatch):
    (folders / "tools.d/a.toml").write_text(SERVER.format("a") + SERVER.format("b"))
    part, done = Catalog._part, asyncio.Event()

    async def hangs_at_b(self, source, *given):
        if source.key.endswith("tools.b"):
            await asyncio.Event().wait()
        made = await part(self, source, *given)
        done.set()
        return made

    monkeypatch.setattr(Catalog, "_part", hangs_at_b)
    reloading = asyncio.create_task(catalog.reload())
    await done.wait()
    reloading.cancel()
    await asyncio.gather(reloading, return_exceptions=True)
    assert opened == {"opened": 1, "closed": 1}


async def test_what_cannot_be_looked_at_is_closed(catalog, folders, opened, monkeypatch):
    def breaks(tool):
        raise MemoryError("no room")

    monkeypatch.setattr(grammar, "check", breaks)
    (folders / "tools.d/a.toml").write_text(SERVER.format("a"))
    (problem,) = await catalog.reload()
    assert "no room" in problem and opened == {"opened": 1, "closed": 1}


async def test_servers_are_waited_for_side_by_side(catalog, folders):
    """Each is up only when the other one is being asked."""
    desk = Path(__file__).parent / "kinds" / "mcp_desk.py"
    waits = "touch $0; until [ -e $1 ]; do sleep 0.05; done; exec $2 $3"
    tables = [
        f'[tools.{own}]\nkind = "mcp"\nconnect_seconds = 60\nargv = ["/bin/sh", "-c", "{waits}", '
        f'"{folders / own}", "{folders / other}", "{sys.executable}", "{desk}"]\n'
        for own, other in (("left", "right"), ("right", "left"))
    ]
    (folders / "tools.d" / "servers.toml").write_text("".join(tables))
    await catalog.reload()
    assert {"left_look_up", "right_look_up"} <= set(catalog.registry.names())
