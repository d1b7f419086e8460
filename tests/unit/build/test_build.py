"""Engine folders: whole or not at all, built once, refused before anything is written."""

import os
import signal
import subprocess
import sys

import pytest

from engines.build import PlanOptions, build, order
from engines.errors import BuildError, EngineFolderError
from engines.manifest import Manifest
from tests.unit.build.conftest import GOLDEN

NEVER_DONE = """
import sys, time
from pathlib import Path
from engines.build import build
def stop(step, done, total):
    if step.startswith("graph") and done == 2:
        print("writing", flush=True)
        time.sleep(60)
build(Path(sys.argv[1]), Path(sys.argv[2]), progress=stop)
"""


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_second_build_has_nothing_to_do(tmp_path):
    steps = []
    first = build(GOLDEN / "glm", tmp_path / "engine")
    stamp = (tmp_path / "engine" / "graph.onnx").stat().st_mtime_ns
    second = build(GOLDEN / "glm", tmp_path / "engine", progress=lambda step, done, total: steps.append(step))
    assert first == second and set(steps) == {"checkpoint"}
    assert (tmp_path / "engine" / "graph.onnx").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("change", ["precision", "block", "weights", "damage", "held_out"])
def test_what_differs_is_built_anew(copy, texts, tmp_path, change):
    one, out = copy(), tmp_path / "engine"
    options = {"precision": "int8", "block": 32}
    before = build(one.write(), out, **options)
    if change == "precision":
        options["precision"] = "int4"
    elif change == "block":
        options["block"] = 16
    elif change == "weights":
        one.tensors["model.norm.weight"][0] += 1
    elif change == "damage":
        (out / "graph.onnx").write_bytes(b"altered")
    else:
        options["held_out"] = texts[1]
    after = build(one.write(), out, **options)
    assert (after.source_sha256 == before.source_sha256) == (change == "damage")
    assert Manifest.load(out) == after and files(tmp_path) == ["checkpoint", "engine"]


def test_a_build_that_fails_leaves_the_old_engine(copy, tmp_path):
    before = build(GOLDEN / "glm", tmp_path / "engine")

    def fail(step, done, total):
        if step == "graph (fused)":
            raise RuntimeError("the lights went out")

    with pytest.raises(RuntimeError, match="lights"):
        build(GOLDEN / "glm", tmp_path / "engine", precision="int8", progress=fail)
    assert Manifest.load(tmp_path / "engine") == before and files(tmp_path) == ["engine"]


def test_a_killed_build_leaves_no_engine_and_its_rest_is_swept(tmp_path):
    command = [sys.executable, "-c", NEVER_DONE, str(GOLDEN / "glm"), str(tmp_path / "engine")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=GOLDEN.parents[2])
    try:
        assert process.stdout.readline() == b"writing\n"
        assert not (tmp_path / "engine").exists() and files(tmp_path)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    (tmp_path / ".engine.backup").mkdir()
    build(GOLDEN / "glm", tmp_path / "engine", precision="int8")
    assert files(tmp_path) == [".engine.backup", "engine"]


def test_places_that_are_not_for_an_engine(tmp_path):
    taken = tmp_path / "documents"
    taken.mkdir()
    (taken / "thesis.txt").write_text("years of work")
    with pytest.raises(BuildError, match="no engine folder"):
        build(GOLDEN / "glm", taken)
    with pytest.raises(BuildError, match="cannot be written"):
        build(GOLDEN / "glm", taken / "thesis.txt" / "engine")
    assert files(taken) == ["thesis.txt"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "int3"}, "'int3' is none of fp32"),
        ({"block": 100}, "block 100 is none of 128"),
        ({"dialects": ("onnx",)}, "'onnx' is none of fused"),
        ({"dialects": ()}, "neither a dialect nor a plan"),
        ({"precision": "fp8"}, "take int8"),
        ({"precision": "fp8", "dialects": ("standard",), "plan": PlanOptions(1, 32)}, "take int8"),
        ({"precision": "fp8", "plan": PlanOptions(1, 32)}, "calibration"),
        ({"calibration": [[5]]}, "text"),
        ({"calibration": [[5, 256]]}, "token id 256 is beyond the vocabulary of 256"),
        ({"calibration": ["words"]}, "tokenizer.json"),
        ({"plan": PlanOptions(4, 1024)}, "capacity 1024 .* context 256"),
        ({"plan": PlanOptions(0, 32)}, "at least 1"),
        ({"plan": PlanOptions(1, 32, flavour="tensorrt_none")}, "tensorrt_none is not installed: pip"),
    ],
)
def test_orders_that_cannot_be_met(tmp_path, options, words):
    if "plan" in options and "fp8" not in options.values() and not options["plan"].flavour:
        pytest.importorskip("tensorrt_rtx")
    with pytest.raises(BuildError, match=words):
        build(GOLDEN / "glm", tmp_path / "out" / "engine", **options)
    assert not (tmp_path / "out").exists()


def test_the_manifest_names_both_sides(tmp_path):
    out = tmp_path / "engine"
    manifest = build(GOLDEN / "glm", out)
    graph = out / "graph.onnx"
    whole = graph.read_bytes()
    graph.write_bytes(whole[:-1])
    with pytest.raises(EngineFolderError, match=f"graph.onnx has {len(whole) - 1} bytes.*says {len(whole)}"):
        Manifest.load(out)
    graph.write_bytes(whole[:-1] + b"?")
    with pytest.raises(EngineFolderError, match=f"SHA-256 .*{manifest.files['graph.onnx'].sha256}"):
        Manifest.load(out)
    graph.unlink()
    with pytest.raises(EngineFolderError, match=r"graph\.onnx is missing"):
        Manifest.load(out)
    text = (out / "manifest.json").read_text()
    (out / "manifest.json").write_text(text.replace('"format": 1', '"format": 9'))
    with pytest.raises(EngineFolderError, match="format 9, this version reads 1"):
        Manifest.load(out, verify=False)
    (out / "manifest.json").write_text(text.replace('"layers": 3', '"layers": "many"'))
    with pytest.raises(EngineFolderError, match=r"sizes\.layers"):
        Manifest.load(out, verify=False)


def test_an_engine_that_cannot_be_read(tmp_path, unreadable):
    build(GOLDEN / "glm", tmp_path / "engine")
    unreadable("graph.onnx")
    with pytest.raises(
        EngineFolderError, match=r"graph\.onnx cannot be read \(Permission denied\); let this user"
    ):
        Manifest.load(tmp_path / "engine")


def test_companions_come_along(copy, tmp_path):
    folder = copy().write()
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    manifest = build(folder, tmp_path / "engine")
    assert {"chat_template.jinja", "generation_config.json", "graph.onnx"} <= set(manifest.files)
    assert manifest.eos_token_ids == [1]


def test_a_new_factory_builds_anew(tmp_path, monkeypatch):
    before = build(GOLDEN / "glm", tmp_path / "engine")
    monkeypatch.setattr(order, "REVISION", order.REVISION + 1)
    assert build(GOLDEN / "glm", tmp_path / "engine").source_sha256 != before.source_sha256
