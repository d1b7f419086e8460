"""Imports point one way: daemon → engines → schemas; the machine never needs the factory."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# folder → top-level names of ours it may import; "engines/serve" is checked more narrowly below
ALLOWED = {
    "schemas": {"schemas"},
    "engines": {"engines", "schemas"},
    "daemon": {"daemon", "engines", "schemas", "openautoglm"},
}
OURS = {"schemas", "engines", "daemon", "openautoglm", "tests"}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
    return names


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_point_one_way(folder):
    for path in (ROOT / folder).rglob("*.py"):
        ours = {name.split(".")[0] for name in imported(path)} & OURS
        assert ours <= ALLOWED[folder], f"{path.relative_to(ROOT)} imports {ours - ALLOWED[folder]}"


@pytest.mark.parametrize(
    ("room", "never"), [("engines/serve", "engines.build"), ("engines/build", "engines.serve")]
)
def test_factory_and_machine_do_not_know_each_other(room, never):
    for path in (ROOT / room).rglob("*.py"):
        assert not [name for name in imported(path) if name.startswith(never)], path.relative_to(ROOT)


# Each may import those before it.
KAFKA = ("brokers", "progress", "publishing", "intake", "lanes", "consumer")


@pytest.mark.parametrize("room", KAFKA)
def test_the_rooms_of_kafka_build_on_one_another(room):
    folder = ROOT / "daemon/kafka"
    for path in (folder / room).rglob("*.py") if (folder / room).is_dir() else [folder / f"{room}.py"]:
        rooms = {name.split(".")[2] for name in imported(path) if name.startswith("daemon.kafka.")}
        later = rooms & set(KAFKA[KAFKA.index(room) + 1 :])
        assert not later, f"{path.relative_to(ROOT)} imports {later}"


def test_what_all_rooms_of_kafka_know_knows_none_of_them():
    for path in (ROOT / "daemon/kafka").glob("*.py"):
        rooms = {name.split(".")[2] for name in imported(path) if name.startswith("daemon.kafka.")}
        assert path.stem == "consumer" or not rooms & set(KAFKA), path.relative_to(ROOT)


def test_the_engine_knows_no_kafka():
    for path in (ROOT / "engines").rglob("*.py"):
        assert not [name for name in imported(path) if name.startswith("aiokafka")], path.relative_to(ROOT)


def test_the_daemon_starts_without_what_only_some_tools_need():
    """It would take twice as long, and whoever waits for a restart would wait for that."""
    program = "import sys, daemon.app; print(*{'mcp', 'sqlalchemy', 'redis', 'httpx2'} & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
