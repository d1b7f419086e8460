"""An engine is built where nothing else is lost by it."""

import json
import shutil
from pathlib import Path

import pytest

from engines.build import build
from engines.errors import BuildError
from engines.manifest import CACHE_PREFIX, Manifest
from tests.unit.build.conftest import GOLDEN


@pytest.fixture
def engine(tmp_path):
    """A built one."""
    folder = tmp_path / "engine"
    build(GOLDEN / "glm", folder)
    return folder


def refused(words, out, source=GOLDEN / "glm"):
    before = sorted(out.rglob("*"))
    with pytest.raises(BuildError, match=words):
        build(source, out, precision="int8")
    assert sorted(out.rglob("*")) == before


@pytest.mark.parametrize("manifest", ['{"name": "an app", "files": ["index.html"]}', "[]", "{", None])
def test_folders_of_others(tmp_path, manifest):
    app = tmp_path / "app"
    app.mkdir()
    (app / "index.html").write_text("years of work")
    if manifest:
        (app / "manifest.json").write_text(manifest)
    refused("app exists and is no engine folder; give another place", app)


@pytest.mark.parametrize("name", ["notes.txt", "graph.onnx.orig", "compiled-"])
def test_what_is_not_the_engines_is_kept(engine, name):
    (engine / name).mkdir()
    refused(f"engine exists and holds {name}, which", engine)


def test_a_checkpoint_is_not_replaced_by_its_engine(engine, tmp_path):
    shutil.copytree(GOLDEN / "glm", engine / "hf")
    refused(r"the checkpoint .*/hf lies in .*/engine, which", engine, engine / "hf")
    (tmp_path / "link").symlink_to(engine)
    refused(r"the checkpoint .*/hf lies in .*/engine, which", tmp_path / "link", engine / "hf")


def test_what_nothing_can_take_the_place_of(tmp_path, monkeypatch):
    with pytest.raises(BuildError, match=r"/proc exists and is a mount point.*; give another place"):
        build(GOLDEN / "glm", Path("/proc"))
    monkeypatch.chdir(tmp_path)
    refused("is the working directory.*; give another place", Path())
    refused("is the working directory.*; give another place", tmp_path)


def test_engines_of_other_versions_and_used_ones_are_built_again(engine):
    values = json.loads((engine / "manifest.json").read_text())
    (engine / "manifest.json").write_text(json.dumps(values | {"format": 9, "later": True}))
    (engine / "graph.onnx").unlink()
    (engine / f"{CACHE_PREFIX}8.9.cache").write_bytes(b"kernels")
    build(GOLDEN / "glm", engine, precision="int8")
    assert Manifest.load(engine).precision == "int8"


def test_a_link_stays_and_the_engine_behind_it_is_replaced(engine, tmp_path):
    (tmp_path / "current").symlink_to(engine)
    build(GOLDEN / "glm", tmp_path / "current", precision="int8")
    assert Manifest.load(engine).precision == "int8"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "engine"]


@pytest.mark.parametrize("fresh", [True, False])
def test_what_is_put_there_while_it_is_built_stays(engine, tmp_path, fresh):
    out = tmp_path / "new" if fresh else engine
    before = None if fresh else Manifest.load(engine)

    def meanwhile(step, done, total):
        if step == "files":
            out.mkdir(exist_ok=True)
            (out / "notes.txt").write_text("mine")

    with pytest.raises(BuildError, match="give another place"):
        build(GOLDEN / "glm", out, precision="int8", progress=meanwhile)
    assert (out / "notes.txt").read_text() == "mine"
    assert fresh or Manifest.load(engine) == before
    assert not list(tmp_path.glob(".*.building"))
