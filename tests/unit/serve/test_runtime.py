"""What every runtime promises (engines/serve/runtime/contract.py), against the reference's logits.

tests/gpu/test_contract.py asks the same of a real GPU.
"""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.build.safetensors import SafeTensors
from engines.serve.kernels.table import choice_table
from engines.serve.prompt import Sampling
from engines.serve.runtime.ort import groups
from engines.serve.sampler import draw
from tests.unit.conftest import GOLDEN

CASES = ("glm", "glm-edge-tied")
RUNTIMES = {
    "onnxruntime-fused": {"dialect": "fused"},
    "onnxruntime-standard": {"dialect": "standard"},
    "tensorrt": {},
}


@pytest.fixture(params=RUNTIMES)
def open_runtime(request, open_ort):
    """open(name, slots, capacity) → a runtime under test; "tensorrt" is its own code on an emulated GPU."""
    if request.param == "tensorrt":
        open_ = request.getfixturevalue("open_emulated")
    else:
        open_ = partial(open_ort, **RUNTIMES[request.param])
    return lambda *arguments, **options: Reading(open_(*arguments, **options))


def spoil(runtime, slot):
    """Make all of a slot's KV NaN, wherever it lies."""
    if hasattr(runtime, "_caches"):
        for cache in runtime._caches.values():
            cache[slot] = np.nan
        return
    layout, device = runtime._sizes.layout, runtime._device
    nothing = device.pinned(layout.slot_bytes)
    nothing[:] = 0xFF  # NaN in every format
    for address in runtime._buffers.caches.values():
        device.upload(address + layout.offset(slot), nothing)
    runtime.finish()


def held(runtime, slot):
    """A slot's KV in all caches, as bytes."""
    if hasattr(runtime, "_caches"):
        return [cache[slot].tobytes() for cache in runtime._caches.values()]
    layout, device = runtime._sizes.layout, runtime._device
    found = []
    for address in runtime._buffers.caches.values():
        found.append(device.pinned(layout.slot_bytes))
        device.download(found[-1], address + layout.offset(slot))
    runtime.finish()
    return [one.tobytes() for one in found]


@pytest.fixture(params=CASES)
def case(request, golden):
    return request.param, golden[request.param]


class Reading:
    """A runtime whose steps return the logits they leave behind.

    tolerance: of a row's norm, where the runtime computes in less than float32.
    """

    def __init__(self, runtime, tolerance=None):
        self._runtime, self._tolerance = runtime, tolerance

    def __getattr__(self, name):
        return getattr(self._runtime, name)

    def prefill(self, slots, tokens, starts):
        self._runtime.prefill(slots, tokens, starts)
        return self._runtime.logits(slots)

    def decode(self, tokens, positions):
        self._runtime.decode(tokens, positions)
        return self._runtime.logits(range(len(tokens)))

    def check(self, actual, expected, atol=1e-3):
        """That these are the same numbers, as exactly as the runtime computes."""
        if self._tolerance is None:
            np.testing.assert_allclose(actual, expected, atol=atol)
        else:
            assert np.linalg.norm(actual - expected) <= self._tolerance * np.linalg.norm(expected)


def ids(tokens):
    return np.array(tokens, np.int64)


def test_fresh_prompts_of_any_length_prefill_together(open_runtime, case):
    name, golden = case
    runtime = open_runtime(name)
    logits = runtime.prefill(range(2, 6), [ids(p) for p in golden["prompts"]], np.zeros(4, np.int64))
    assert logits.shape == (4, runtime.vocab_size)
    for row, expected, n in zip(logits, golden["logits"], golden["lengths"], strict=True):
        runtime.check(row, expected[n - 1])


@pytest.mark.parametrize("cut", [1, 11, 29])
def test_chunks_and_single_tokens_continue_what_is_cached(open_runtime, case, cut):
    name, golden = case
    runtime, prompt = open_runtime(name), golden["prompts"][2]
    runtime.prefill(range(1), [ids(prompt[:cut])], ids([0]))
    chunk = runtime.prefill(range(1), [ids(prompt[cut:30])], ids([cut]))
    runtime.check(chunk[0], golden["logits"][2, 29])
    last = runtime.decode(ids(prompt[30:]), ids([30]))
    runtime.check(last[0], golden["logits"][2, 30])


def test_rows_decode_together_at_different_positions(open_runtime, case):
    name, golden = case
    runtime = open_runtime(name)
    prompts = golden["prompts"][:3]
    runtime.prefill(range(3), [ids(p[:-1]) for p in prompts], np.zeros(3, np.int64))
    logits = runtime.decode(ids([p[-1] for p in prompts]), ids([len(p) - 1 for p in prompts]))
    for row, expected, prompt in zip(logits, golden["logits"], prompts, strict=False):
        runtime.check(row, expected[len(prompt) - 1])


def test_rows_prefill_together_after_different_prefixes(open_runtime, case):
    name, golden = case
    runtime = open_runtime(name)
    prompts, starts = golden["prompts"][:3], [2, 0, 7]
    for slot, (prompt, start) in enumerate(zip(prompts, starts, strict=True)):
        if start:
            runtime.prefill(range(slot, slot + 1), [ids(prompt[:start])], ids([0]))
    logits = runtime.prefill(
        range(3), [ids(p[s:]) for p, s in zip(prompts, starts, strict=True)], ids(starts)
    )
    for row, expected, prompt in zip(logits, golden["logits"], prompts, strict=False):
        runtime.check(row, expected[len(prompt) - 1])


def test_a_copied_prefix_is_as_good_as_a_computed_one(open_runtime, case):
    name, golden = case
    runtime, prompt = open_runtime(name), golden["prompts"][2]
    runtime.prefill(range(1), [ids(prompt)], ids([0]))
    runtime.prefill(range(5, 6), [ids(prompt[::-1])], ids([0]))  # something to overwrite
    runtime.copy_slot(0, 5, 20)
    runtime.prefill(range(1), [ids(prompt[::-1])], ids([0]))  # the copy does not depend on its source
    logits = runtime.prefill(range(5, 6), [ids(prompt[20:])], ids([20]))
    runtime.check(logits[0], golden["logits"][2, 30])


def test_a_slot_with_what_is_no_number_can_be_cleared(open_runtime, case):
    name, golden = case
    runtime, prompt = open_runtime(name), golden["prompts"][2]
    spoil(runtime, 1)
    assert all(map(any, held(runtime, 1)))
    runtime.clear_slot(1)
    assert not any(map(any, held(runtime, 1)))
    logits = runtime.prefill(range(1, 2), [ids(prompt)], ids([0]))
    runtime.check(logits[0], golden["logits"][2, len(prompt) - 1])


def test_a_row_leaves_every_other_slot_alone(open_runtime, case):
    name, golden = case
    runtime, prompts = open_runtime(name), golden["prompts"]
    for slot in range(3):
        runtime.prefill(range(slot, slot + 1), [ids(prompts[slot][:-1])], ids([0]))
    runtime.prefill(range(3, 5), [ids(prompts[0]), ids(prompts[2])], ids([0, 0]))
    runtime.copy_slot(4, 7, 31)
    logits = runtime.decode(ids([p[-1] for p in prompts[:3]]), ids([len(p) - 1 for p in prompts[:3]]))
    for row, expected, prompt in zip(logits, golden["logits"], prompts, strict=False):
        runtime.check(row, expected[len(prompt) - 1])


def test_hidden_states_belong_to_the_slots_last_tokens(open_runtime, case):
    """The head makes the slot's logits of them, after a prefill of many, a chunk and a decode step."""
    name, golden = case
    runtime, prompts = open_runtime(name), golden["prompts"]
    tensors = SafeTensors(GOLDEN / name)
    head = tensors.read("lm_head.weight" if "lm_head.weight" in tensors else "model.embed_tokens.weight")
    assert runtime.hidden_size == head.shape[1]

    def check(logits, slots):
        hidden = runtime.hidden(slots)
        assert hidden.shape == (len(slots), runtime.hidden_size) and hidden.dtype == np.float32
        runtime.check(hidden @ head.T, logits, 1e-4)

    check(runtime.prefill(range(2, 6), [ids(p) for p in prompts], np.zeros(4, np.int64)), range(2, 6))
    check(runtime.prefill(range(3, 4), [ids(prompts[0])], ids([len(prompts[1])])), range(3, 4))
    check(runtime.logits(range(2, 6)), range(2, 6))
    runtime.prefill(range(3), [ids(p[:-1]) for p in prompts[:3]], np.zeros(3, np.int64))
    check(runtime.decode(ids([p[-1] for p in prompts[:3]]), ids([len(p) - 1 for p in prompts[:3]])), range(3))


def test_a_slot_can_be_filled_to_its_capacity(open_runtime, case):
    name, golden = case
    prompt = golden["prompts"][2]
    runtime = open_runtime(name, capacity=31)
    logits = runtime.prefill(range(2), [ids(prompt), ids(prompt[:3])], ids([0, 0]))
    runtime.check(logits[0], golden["logits"][2, 30])
    runtime.prefill(range(1), [ids(prompt[:-1])], ids([0]))
    last = runtime.decode(ids(prompt[30:]), ids([30]))
    runtime.check(last[0], golden["logits"][2, 30])


def test_a_slot_is_filled_beside_a_longer_prompt(open_runtime, case):
    """Next to the longer one its last tokens are padded, to more than the slot has room for."""
    name, golden = case
    prompt, other = golden["prompts"][2], golden["prompts"][1]
    runtime = open_runtime(name, slots=3, capacity=31)
    for slot in (0, 2):
        runtime.prefill(range(slot, slot + 1), [ids(prompt[:29])], ids([0]))
    tokens = [ids(prompt[29:]), ids(other), ids(prompt[29:])]
    logits = runtime.prefill(range(3), tokens, ids([29, 0, 29]))
    whole = golden["logits"][2, 30]
    for row, expected in zip(logits, (whole, golden["logits"][1, 11], whole), strict=True):
        runtime.check(row, expected)


def test_draws_are_of_the_slots_own_logits_and_feed_the_next_step(open_runtime, case):
    name, golden = case
    runtime, prompts = open_runtime(name), golden["prompts"][:3]
    logits = runtime.prefill(range(3), [ids(p) for p in prompts], np.zeros(3, np.int64))
    choices = [Sampling(), Sampling(0.9, top_k=20, top_p=0.9), Sampling()]
    table = choice_table(choices, [5, 6, 7], [1, 2, 3])
    table["slot"], table["measured"] = np.arange(3), 1
    allowed = np.zeros((1, -(-runtime.vocab_size // 32)), np.int32)
    allowed[0, 0] = 1 << 9
    table["allowed"][2] = 0
    draws = runtime.sample(table, allowed).wait()
    np.testing.assert_array_equal(draws, draw(logits, table, allowed))
    assert draws["token"][2] == 9
    some = table[[1]]
    assert runtime.sample(some).wait()["token"] == draws["token"][1]
    positions = ids([len(p) for p in prompts])
    fed = runtime.decode(ids([-1, -2, -3]), positions)
    given_ = runtime.decode(draws["token"].astype(np.int64), positions)
    runtime.check(fed, given_, 1e-5)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=30), st.integers(0, 40))
def test_prefill_groups_cover_every_row_and_pay_for_themselves(lengths, call):
    cuts = groups(lengths, call)
    assert [i for cut in cuts for i in range(len(lengths))[cut]] == list(range(len(lengths)))
    cost = sum(call + (cut.stop - cut.start) * max(lengths[cut]) for cut in cuts)
    assert cost <= sum(call + length for length in lengths)
