"""Which runtime an engine folder gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import DeviceNotFound, EngineFolderError, EngineTooLarge
from engines.manifest import Manifest
from engines.serve.engine import Engine
from engines.serve.memory import rows_of, slots_for
from engines.serve.runtime import choose
from engines.serve.runtime.choose import Wanted, open_runtime
from engines.serve.runtime.ort import OrtRuntime
from tests.unit.gpu.emulated_runtime import open_emulated_runtime
from tests.unit.gpu.test_compatibility import manifest_with


def test_an_onnx_folder_runs_on_the_cpu(folders):
    folder = folders / "glm"
    runtime, rows = open_runtime(folder, Manifest.load(folder), Wanted(rows=3, capacity=40))
    assert isinstance(runtime, OrtRuntime)
    assert (rows, runtime.slots, runtime.capacity) == (3, 4, 40)


def test_a_plan_never_falls_back_to_the_cpu(tmp_path):
    with pytest.raises((DeviceNotFound, EngineFolderError), match=r"not installed|missing"):
        open_runtime(tmp_path, manifest_with(), Wanted())
    with pytest.raises(EngineTooLarge, match="capacity of 63, not 100"):
        open_runtime(tmp_path, manifest_with(), Wanted(capacity=100))


@given(st.integers(1, 500))
def test_rows_and_slots_agree(rows):
    assert rows <= rows_of(slots_for(rows) + 1)
    assert rows_of(rows) <= rows


def test_a_tensorrt_engine_is_loaded_like_any_other(emulated, folders, tmp_path, monkeypatch):
    """Warmed up by one thread and run by another, with the GPU emulated."""

    def emulated_open(folder, manifest, *, rows, device, share):
        return open_emulated_runtime(emulated, folder, tmp_path, slots=rows or 9, capacity=63)

    monkeypatch.setattr(choose.TrtRuntime, "open", emulated_open)
    monkeypatch.setattr(choose, "tensorrt_of", lambda manifest: None)  # not installed here
    plan = manifest_with().plan
    manifest = Manifest.load(folders / "glm").model_copy(update={"plan": plan, "runtime": "tensorrt"})
    runtime, rows = open_runtime(folders / "glm", manifest, Wanted())
    assert (rows, runtime.slots, runtime.capacity) == (8, 9, 63)
    engine = Engine(runtime, rows=rows)
    engine._stepper.warm_up()
    runtime.leave()
    engine.start()
    engine.close()
    assert runtime._device.closed
