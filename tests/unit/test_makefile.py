"""The Makefile's virtual environment, with a Python that only pretends to make one."""

import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[2] / "Makefile"
# As on Debian: without the package of ensurepip the files are made, pip is not, and the command fails.
PYTHON = """#!/bin/sh
[ "$1" = -m ] || exit 0
for folder; do :; done
case " $* " in *" --clear "*) rm -rf "$folder" ;; esac
mkdir -p "$folder/bin" || exit 1
[ -e ensurepip ] || exit 1
printf '#!/bin/sh\\n' > "$folder/bin/pip"
chmod +x "$folder/bin/pip"
"""


@pytest.fixture
def make(tmp_path):
    """make() → the finished `make .venv/ready` in a checkout of its own."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    shutil.copy(MAKEFILE, tmp_path)
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).touch()
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    command = ["make", "PYTHON=./python", ".venv/ready"]
    return lambda: subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)


def test_an_environment_that_could_not_be_made_is_made_once_it_can_be(make, tmp_path):
    failed = make()
    assert failed.returncode and "apt install python3-venv" in failed.stdout
    left = tmp_path / ".venv" / "left"
    left.touch()
    (tmp_path / "ensurepip").touch()
    made = make()
    assert made.returncode == 0, made.stderr
    assert not left.exists(), "what was left of the first one is still there"


def test_an_environment_that_is_there_is_kept(make, tmp_path):
    (tmp_path / "ensurepip").touch()
    assert make().returncode == 0
    kept = tmp_path / ".venv" / "kept"
    kept.touch()
    (tmp_path / "requirements.lock").write_text("changed")
    (tmp_path / ".venv" / "ready").unlink()
    assert make().returncode == 0 and kept.exists()
