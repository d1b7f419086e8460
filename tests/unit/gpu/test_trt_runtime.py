"""The GPU runtime's own code on an emulated device: what the contract's tests do not ask."""

import threading

import numpy as np
import pytest

from engines.errors import EngineFolderError, EngineTooLarge, GpuFailed, StepHung
from engines.manifest import Manifest
from engines.serve.engine import Engine
from engines.serve.kernels.table import choice_table
from engines.serve.prompt import Prompt, Sampling
from engines.serve.runtime.ort import OrtRuntime
from tests.unit.gpu.emulated_device import EmulatedDevice
from tests.unit.gpu.emulated_runtime import emulated_tensorrt_on, open_emulated_runtime


def ids(tokens):
    return np.array(tokens, np.int64)


@pytest.fixture
def runtime(open_emulated):
    return open_emulated(slots=6, capacity=63)


def test_every_bucket_is_captured_before_the_first_request(runtime):
    device = runtime._device
    assert device.captures == 4  # 1, 2, 4, 6
    taken = device.taken
    launches = len(device.launches)
    for rows in range(1, 7):
        runtime.decode(ids([1] * rows), ids([0] * rows))
    assert device.replays == 6
    assert device.launches[launches:] == ["feed"] * 6
    runtime.prefill(range(2), [ids([1] * 20), ids([2])], ids([0, 0]))
    runtime.sample(choice_table([Sampling()], [0], [0])).wait()
    runtime.copy_slot(0, 3, 9)
    assert device.taken == taken, "the steady state allocates"


def test_padding_rows_leave_the_other_slots_alone(runtime):
    """Three rows run in a bucket of four: slot 3 keeps all its `capacity` tokens."""
    prompt = np.random.default_rng(0).integers(1, 200, 64)
    runtime.prefill(range(3, 4), [prompt[:63]], ids([0]))
    runtime.prefill(range(4, 5), [prompt[:63]], ids([0]))
    runtime.decode(ids([1, 2, 3]), ids([0, 0, 0]))
    runtime.prefill(range(3, 5), [prompt[62:63], prompt[62:63]], ids([62, 62]))
    kept, untouched = runtime.logits(range(3, 5))
    np.testing.assert_array_equal(kept, untouched)


def test_more_slots_than_fit_are_refused_with_the_number_that_does(emulated, folders, tmp_path):
    with pytest.raises(EngineTooLarge, match="9 slots asked for, 8 the plan was built for"):
        open_emulated_runtime(emulated, folders / "glm", tmp_path, slots=8, capacity=63, ask=9)
    with pytest.raises(EngineTooLarge, match=r"more GPU memory for a single slot"):
        open_emulated_runtime(emulated, folders / "glm", tmp_path, slots=8, capacity=63, total=1 << 20)
    with pytest.raises(EngineTooLarge, match=r"0\.25 GiB of 1\.00 GiB are there for it"):
        open_emulated_runtime(emulated, folders / "glm", tmp_path, slots=8, capacity=63, share=0.25)


def test_a_file_that_is_no_plan_is_told_in_tensorrts_words(emulated, folders, tmp_path):
    with pytest.raises(EngineFolderError, match=r"model\.plan cannot be loaded: not a plan"):
        open_emulated_runtime(emulated, folders / "glm", tmp_path, slots=2, capacity=63, plan=b"something")


def test_a_hung_step_is_found(open_emulated):
    runtime = open_emulated(slots=2, capacity=63, limit=0.05)
    runtime.decode(ids([1]), ids([0]))
    runtime._device.stuck = True
    with pytest.raises(StepHung, match=r"after 0\.05 s"):
        runtime.sample(choice_table([Sampling()], [0], [0])).wait()
    with pytest.raises(StepHung):
        runtime.finish()


def test_a_step_that_tensorrt_refuses_ends_the_runtime(runtime):
    runtime._steps._prefilling.fail = True
    with pytest.raises(GpuFailed, match="an emulated GPU failed a step"):
        runtime.prefill(range(1), [ids([1])], ids([0]))


def test_two_draws_may_be_in_flight(runtime):
    runtime.prefill(range(2), [ids([1, 2]), ids([3])], ids([0, 0]))
    table = choice_table([Sampling(), Sampling()], [0, 0], [0, 0])
    table["slot"] = [0, 1]
    first = runtime.sample(table)
    runtime.decode(ids([-1, -2]), ids([2, 1]))
    second = runtime.sample(table)
    expected = runtime.logits(range(2)).argmax(axis=1)
    tokens = first.wait()["token"].copy()
    assert second.wait()["token"].tolist() == expected.tolist()
    runtime.decode(tokens.astype(np.int64), ids([2, 1]))
    assert runtime.sample(table).wait()["token"].tolist() == expected.tolist()


def test_an_engine_answers_the_same_on_both_runtimes(emulated, folders, tmp_path, golden):
    """Greedy and sampled: equal logits draw equal tokens, on whatever draws them."""
    folder = folders / "glm"
    manifest = Manifest.load(folder)
    gpu = open_emulated_runtime(emulated, folder, tmp_path, slots=5, capacity=95)
    gpu.leave()  # the engine's thread takes it over
    cpu = OrtRuntime.open(folder, manifest, slots=5, capacity=95, dialect="standard", threads=1)
    picks = [
        Sampling(),
        Sampling(0.8, top_k=30, top_p=0.95, seed=3),
        Sampling(1.0, repetition_penalty=1.5, seed=9),
    ]
    answers = []
    for runtime in (cpu, gpu):
        engine = Engine(runtime, rows=4, eos_token_ids=[])
        engine.start()
        prompts = [(p, pick) for p in golden["glm"]["prompts"] for pick in picks]
        waiting = [engine.submit(Prompt(ids_, 6, sampling=pick)) for ids_, pick in prompts]
        answers.append([generation.wait(60).token_ids for generation in waiting])
        engine.close()
    assert answers[0] == answers[1]
    assert gpu._device.closed


def test_the_device_follows_the_thread_that_uses_it(runtime):
    runtime.leave()
    failed = []

    def use():
        try:
            runtime.decode(ids([1]), ids([0]))
        except AssertionError as error:
            failed.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert not failed
    assert runtime._device.thread == thread.ident


def test_another_version_of_tensorrt_is_refused_before_loading(emulated, folders, tmp_path):
    device = EmulatedDevice(emulated)
    module = emulated_tensorrt_on(device)
    module.__version__ = "7.7"
    with pytest.raises(EngineFolderError, match=r"tensorrt 0\.0, 7\.7 is installed"):
        open_emulated_runtime(
            emulated, folders / "glm", tmp_path, slots=2, capacity=63, device=device, module=module
        )
    assert device.taken == 0
