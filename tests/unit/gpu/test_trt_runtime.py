"""The GPU runtime's own code on an emulated device: what the contract's tests do not ask."""

import random
import threading

import numpy as np
import pytest

from engines.errors import EngineFolderError, EngineTooLarge, GpuFailed, StepHung
from engines.keepsake import Keepsake
from engines.manifest import Manifest
from engines.serve.engine import Engine
from engines.serve.kernels.table import choice_table
from engines.serve.masks import GrammarCompiler
from engines.serve.prompt import Prompt, Sampling
from engines.serve.runtime.ort import OrtRuntime
from tests.unit.gpu.emulated_device import EmulatedDevice
from tests.unit.gpu.emulated_runtime import emulated_tensorrt_on, open_emulated_runtime
from tests.unit.serve.small_tokenizer import small_tokenizer
from tests.unit.serve.test_stepper import random_prompt, run


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
    runtime.finish()
    assert device.replays == 6
    assert device.launches[launches:] == ["feed"] * 6
    runtime.prefill(range(2), [ids([1] * 20), ids([2])], ids([0, 0]))
    runtime.sample(choice_table([Sampling()], [0], [0])).wait()
    runtime.copy_slot(0, 3, 9)
    assert device.taken == taken, "the steady state allocates"


def test_tensorrt_rtx_captures_by_itself_and_keeps_what_it_compiled(open_emulated, open_ort, tmp_path):
    cache = tmp_path / "compiled.cache"
    runtime = open_emulated(slots=6, capacity=63, flavour="tensorrt_rtx", cache=Keepsake(cache, "kernels"))
    assert runtime._device.captures == 0
    assert cache.read_bytes() == b"kernelkernel"  # of two contexts
    cpu = open_ort(slots=6, capacity=63, dialect="standard")
    for one in (runtime, cpu):
        one.prefill(range(3), [ids([1, 2]), ids([3]), ids([4] * 20)], ids([0, 0, 0]))
        one.decode(ids([7, 8, 9]), ids([2, 1, 20]))
    np.testing.assert_allclose(runtime.logits(range(3)), cpu.logits(range(3)), atol=1e-4)
    open_emulated(slots=6, capacity=63, flavour="tensorrt_rtx", cache=Keepsake(cache, "kernels"))
    assert cache.read_bytes() == b"kernel" * 4, "what was compiled is not there at the next start"


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
    with pytest.raises(EngineTooLarge, match="9 rows asked for, 8 the plan was built for"):
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


def test_a_device_that_hangs_while_it_is_loaded_is_found(emulated, folders, tmp_path):
    device = EmulatedDevice(emulated)
    device.stuck = True
    with pytest.raises(StepHung):
        open_emulated_runtime(
            emulated, folders / "glm", tmp_path, slots=2, capacity=63, device=device, limit=0.05
        )


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


@pytest.mark.parametrize("seed", range(4))
def test_any_traffic_is_answered_as_on_the_cpu(emulated, folders, tmp_path, seed):
    """Prompts longer than a launch, shared prefixes, moves, grammars, options and cancellations, with two
    steps at work on a device that is always late."""
    rng = random.Random(seed)
    compiler = GrammarCompiler.over(small_tokenizer(), 256, [1, 2, 3])
    stems = [[rng.randrange(256) for _ in range(length)] for length in (15, 16, 17, 33)]
    prompts = [random_prompt(rng, stems) for _ in range(12)]
    how = {
        "rows": rng.randint(3, 5),
        "chunk": rng.choice([16, 1024]),
        "arrivals": np.cumsum([rng.choice([0, 1, 4]) for _ in prompts]).tolist(),
        "cancelled": {i: rng.randrange(40) for i in range(len(prompts)) if rng.random() < 0.2},
    }
    folder = folders / "glm"
    gpu = open_emulated_runtime(emulated, folder, tmp_path, slots=5, capacity=79)
    cpu = OrtRuntime.open(folder, Manifest.load(folder), slots=5, capacity=79, dialect="standard", threads=1)
    ahead, counters = run(gpu, prompts, compiler, **how)
    waited, _ = run(cpu, prompts, compiler, **how)
    for one, other in zip(ahead, waited, strict=True):
        if "cancelled" not in (one.finish_reason, other.finish_reason):
            assert one.token_ids == other.token_ids
            np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4)
    assert counters.failed == 0
    assert len([one for one in ahead if one.finish_reason != "cancelled"]) > 5


@pytest.mark.parametrize("length", [15, 16, 17, 31, 32, 33, 62])
def test_prompts_at_the_border_of_a_launch(open_emulated, open_ort, length):
    """Launches of 16 tokens at most; the slot behind keeps what it had."""
    prompt = np.random.default_rng(length).integers(1, 250, 63)
    gpu, cpu = open_emulated(slots=3, capacity=63), open_ort(slots=3, capacity=63, dialect="standard")
    for runtime in (gpu, cpu):
        runtime.prefill(range(1, 2), [prompt[::-1]], ids([0]))
        runtime.prefill(range(1), [prompt[:length]], ids([0]))
        runtime.copy_slot(0, 2, length - 1)
        runtime.prefill(range(2, 3), [prompt[length - 1 : length]], ids([length - 1]))
        runtime.prefill(range(1, 2), [prompt[::-1][62:]], ids([62]))
    np.testing.assert_allclose(gpu.logits(range(3)), cpu.logits(range(3)), atol=1e-4)
    np.testing.assert_allclose(gpu.logits(range(1)), gpu.logits(range(2, 3)), atol=1e-4)


def test_pinned_memory_is_not_used_again_before_its_step_is_done(runtime, open_ort):
    """More steps at once than there are frames, all enqueued before any runs, each fed by the one before."""
    steps, cpu = 9, open_ort(slots=6, capacity=63, dialect="standard")
    table = choice_table([Sampling(), Sampling()], [0, 0], [0, 0])
    table["slot"] = [0, 1]
    found = []
    for one in (runtime, cpu):
        one.prefill(range(2), [ids([1, 2]), ids([3])], ids([0, 0]))
        draws = [one.sample(table)]
        for step in range(steps):
            one.decode(ids([-1, -2]), ids([2 + step, 1 + step]))
            if step % 2:  # some are never read
                draws.append(one.sample(table))
            else:
                one.sample(table)
        found.append([draws[-1].wait()["token"].tolist(), one.logits(range(2))])
    assert found[0][0] == found[1][0]
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-4)


def test_a_gpu_that_does_not_answer_is_left_alone(runtime):
    """Giving memory back would wait for it for ever."""
    runtime.decode(ids([1]), ids([0]))
    runtime._limit, runtime._device.stuck = 0.05, True
    runtime.close()
    assert not runtime._device.closed
    assert runtime._device.thread is None


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
