"""Engines are replaced in one step, by one build at a time."""

import logging
import threading
from pathlib import Path

import pytest

from engines.build import build, folder
from engines.build.exchange import exchange
from engines.build.lock import locked
from engines.errors import BuildError
from engines.manifest import Manifest
from tests.unit.build.conftest import GOLDEN


def names(root):
    return sorted(path.name for path in root.iterdir())


@pytest.fixture
def out(tmp_path):
    """Where an engine in fp32 is."""
    build(GOLDEN / "glm", tmp_path / "engine")
    return tmp_path / "engine"


@pytest.fixture
def waited():
    """Set when a build waits for another one."""
    event, log = threading.Event(), logging.getLogger("engines.build.lock")
    handler = logging.Handler()
    handler.emit = lambda record: event.set()
    log.addHandler(handler)
    yield event
    log.removeHandler(handler)


@pytest.fixture
def two_steps(monkeypatch):
    """A file system without an exchange of names."""
    monkeypatch.setattr(folder, "exchange", lambda one, other: False)


def test_the_later_of_two_builds_finds_the_engine_of_the_other(tmp_path, waited):
    second, steps = [], []

    def later():
        second.append(
            build(GOLDEN / "glm", tmp_path / "engine", progress=lambda step, *_: steps.append(step))
        )

    thread = threading.Thread(target=later)

    def progress(step, done, total):
        if step == "graph (fused)" and not thread.ident:
            thread.start()
            assert waited.wait(60)

    first = build(GOLDEN / "glm", tmp_path / "engine", progress=progress)
    thread.join()
    assert second == [first] and set(steps) == {"checkpoint"} and names(tmp_path) == ["engine"]


def test_a_lock_is_held_by_one_after_another(tmp_path, waited):
    file, order = tmp_path / "lock", []

    def next_one():
        with locked(file):
            order.append("second")

    thread = threading.Thread(target=next_one)
    with locked(file):
        thread.start()
        assert waited.wait(60)
        order.append("first")
    thread.join()
    assert order == ["first", "second"] and names(tmp_path) == []


def test_the_place_is_never_empty(out, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    if not exchange(out, tmp_path / "other"):
        pytest.skip("this system cannot exchange two names")
    assert names(out) == [] and exchange(out, tmp_path / "other")
    with monkeypatch.context() as patch:
        patch.delattr(Path, "rename")
        build(GOLDEN / "glm", out, precision="int8")
    assert Manifest.load(out).precision == "int8" and names(tmp_path) == ["engine", "other"]


@pytest.mark.usefixtures("two_steps")
def test_without_an_exchange_it_takes_two_steps(out, tmp_path):
    build(GOLDEN / "glm", out, precision="int8")
    assert Manifest.load(out).precision == "int8" and names(tmp_path) == ["engine"]


@pytest.mark.usefixtures("two_steps")
def test_what_was_killed_between_the_steps_is_put_back(out, tmp_path):
    out.rename(tmp_path / ".engine.replaced")
    (tmp_path / ".engine.building").mkdir()
    steps = []
    build(GOLDEN / "glm", out, progress=lambda step, *_: steps.append(step))
    assert set(steps) == {"checkpoint"} and names(tmp_path) == ["engine"]


@pytest.mark.usefixtures("two_steps")
def test_a_second_step_that_fails_takes_the_first_one_back(out, tmp_path, monkeypatch):
    rename = Path.rename

    def only_old_ones(path, target):
        if path.name == ".engine.building":
            raise PermissionError(1, "not permitted", str(target))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", only_old_ones)
    with pytest.raises(BuildError, match="engine cannot be written: not permitted"):
        build(GOLDEN / "glm", out, precision="int8")
    assert Manifest.load(out).precision == "fp32" and names(tmp_path) == ["engine"]
