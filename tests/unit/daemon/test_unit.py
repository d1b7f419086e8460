"""systemd/autoglm@.service with the files beside it: how its instances start, and what they may do."""

import re
from pathlib import Path

import pytest

from daemon.settings import load

SYSTEMD = Path(__file__).parents[3] / "systemd"
LINES = (SYSTEMD / "autoglm@.service").read_text("utf-8").splitlines()
DIRECTIVES = [line.split("=", 1) for line in LINES if "=" in line and not line.startswith("#")]


@pytest.fixture
def start(monkeypatch):
    """start(instance) → the settings of that instance on a host where nothing was changed."""

    def start_(instance):
        for name, value in DIRECTIVES:
            if name == "Environment" and value.startswith("AUTOGLM_"):
                variable, given = value.split("=", 1)
                monkeypatch.setenv(variable, given.replace("%i", instance))
        return load(SYSTEMD / "autoglm.toml")

    return start_


def test_every_instance_has_a_metrics_port_of_its_own(start):
    ports = [start(str(number)).metrics.port for number in range(10)]
    assert ports == list(range(9460, 9470))


def test_it_is_started_for_as_long_as_it_takes():
    assert {("StartLimitIntervalSec", "0"), ("TimeoutStartSec", "infinity")} <= {
        (name, value) for name, value in DIRECTIVES
    }


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_readme_installs_what_the_unit_looks_for(readme):
    text = (SYSTEMD.parent / readme).read_text("utf-8")
    program = Path(dict(DIRECTIVES)["ExecStart"].split()[0])
    assert f"-m venv {program.parents[1]}\n" in text
    for name in ("sysusers.conf", "tmpfiles.conf"):
        header = (SYSTEMD / name).read_text("utf-8").splitlines()[0]
        assert f"systemd/{name} {header.removeprefix('# ')}\n" in text
    settings = (SYSTEMD / "autoglm.toml").read_text("utf-8").split()[1].removesuffix(":")
    assert (
        f"systemd/autoglm.toml {Path(settings).parent}/" in text and settings in dict(DIRECTIVES)["ExecStart"]
    )


def test_the_folder_of_the_engines_is_the_services_own():
    """What a runtime compiles at the first start is kept there."""
    unit = dict(DIRECTIVES)
    folder = unit["ReadWritePaths"].removeprefix("-")
    made = [line.split() for line in (SYSTEMD / "tmpfiles.conf").read_text("utf-8").splitlines()]
    assert ["d", folder, "0750", unit["User"], unit["Group"], "-"] in made
    engines = re.findall(r'path = "(.+?)"', (SYSTEMD / "autoglm.toml").read_text("utf-8"))
    assert {str(Path(engine).parent) for engine in engines} == {folder}
