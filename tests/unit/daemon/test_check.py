"""`autoglm check` refuses what `autoglm run` could not start with."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from daemon.bundled import CHECKPOINT
from daemon.cli import app
from engines.build import build
from engines.errors import EngineFolderError, EngineTooLarge
from engines.manifest import FileEntry, Manifest
from engines.tokenizer.errors import TemplateBroken, TokenizerMissing
from tests.unit.gpu.emulated_runtime import plan_of


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built") / "engine"
    build(CHECKPOINT, folder)
    return folder


@pytest.fixture
def engine(built, tmp_path):
    """An engine folder of one's own."""
    return shutil.copytree(built, tmp_path / "engine", copy_function=shutil.copyfile)


@pytest.fixture
def check(tmp_path):
    """check(folder, capacity) → what is printed about that only engine."""

    def run(folder, capacity=512):
        settings = tmp_path / "autoglm.toml"
        settings.write_text(
            f"[engine]\npath = {json.dumps(str(folder))}\ncapacity = {capacity}\n"
            "[tools]\ndeclarations = []\nplugins = []\nentry_points = false\n"
        )
        return CliRunner().invoke(app, ["check", "--config", str(settings)], catch_exceptions=False).stdout

    return run


def change(folder, *, files=None, **fields):
    """As a build would have left it: with these files, and the manifest to match."""
    manifest = Manifest.load(folder)
    for name, text in (files or {}).items():
        (folder / name).write_text(text)
        fields["files"] = manifest.files | {name: FileEntry.of(folder / name)}
    manifest.model_copy(update=fields).save(folder)


def test_an_engine_that_would_start(check, built):
    assert "all is well" in check(built)


def test_more_capacity_than_the_model_has_context(check, built):
    with pytest.raises(EngineTooLarge, match="100000"):
        check(built, capacity=100_000)


@pytest.mark.parametrize(
    ("file", "text", "error"),
    [
        ("tokenizer.json", "{", TokenizerMissing),
        ("tokenizer_config.json", "{", TokenizerMissing),
        ("chat_template.jinja", "{% for", TemplateBroken),
    ],
)
def test_a_tokenizer_that_cannot_be_read(check, engine, file, text, error):
    change(engine, files={file: text})
    with pytest.raises(error):
        check(engine)


def test_a_plan_for_another_capacity_or_another_tensorrt(check, engine):
    change(engine, runtime="tensorrt", plan=plan_of(512, 8))
    with pytest.raises(EngineTooLarge, match="capacity of 511, not 512"):
        check(engine)
    with pytest.raises(EngineFolderError, match=r"not installed|the plan was built with tensorrt 0\.0"):
        check(engine, capacity=511)
