"""`autoglm build` and `autoglm inspect`."""

import pytest
from typer.testing import CliRunner

from daemon.cli import app
from daemon.errors import InvalidRequest
from tests.unit.build.conftest import GOLDEN

CHECKPOINT = str(GOLDEN / "glm")


def run(*arguments):
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False).stdout


def test_build_and_inspect(tmp_path):
    out = str(tmp_path / "engine")
    said = run("build", CHECKPOINT, "--out", out, "--precision", "int8", "--block", "32")
    assert "glm int8 for onnxruntime" in said
    shown = run("inspect", out)
    assert "int8, blocks of 32" in shown and "graph.onnx.data" in shown and "256 tokens" in shown


def test_dry_run_writes_nothing(tmp_path):
    out = tmp_path / "engine"
    said = run("build", CHECKPOINT, "--out", str(out), "--dry-run", "--device-gib", "0.01")
    assert "glm int4" in said and "256 tokens fit" in said and not out.exists()
    assert "nothing fits into 0.0001 GiB" in run("build", CHECKPOINT, "--dry-run", "--device-gib", "0.0001")


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(InvalidRequest, match="--out"):
        run("build", CHECKPOINT)
    empty = tmp_path / "empty.txt"
    empty.write_text("\n \n")
    with pytest.raises(InvalidRequest, match=r"empty\.txt is empty"):
        run("build", CHECKPOINT, "--out", str(tmp_path / "engine"), "--calibration", str(empty))
