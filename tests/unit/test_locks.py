"""What an operator installs is what was tested."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def pins(file):
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[[^]]*\])?==([^ ;]+)", (ROOT / file).read_text(), re.MULTILINE))


def test_the_service_has_the_versions_of_the_tests():
    tested, installed = pins("requirements.lock"), pins("systemd/requirements.lock")
    assert installed.items() <= tested.items()


def test_the_service_has_all_that_it_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["redis"], *extras["postgresql"]]
    names = {re.match(r"[A-Za-z0-9-]+", one)[0].lower() for one in wanted}
    assert names <= pins("systemd/requirements.lock").keys()
