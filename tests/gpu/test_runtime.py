"""TensorRT's logits against the reference, and what a step costs."""

import os
import time

import numpy as np
import psutil
import pytest

from engines.serve.engine import Engine
from engines.serve.kernels.table import choice_table
from engines.serve.prompt import Prompt, Sampling
from tests.gpu.conftest import DEVICE, GOLDEN
from tests.gpu.measures import (
    TOLERANCE,
    alone_and_together,
    greedy_agreement,
    prefill_last,
    relative_errors,
    step_seconds,
)

FAMILIES = ("glm", "glm-edge-tied", "glm4", "glm4-moe", "glm4-moe-groups", "glm4-moe-lite")
SOAK = float(os.environ.get("AUTOGLM_SOAK_SECONDS", "600"))
SLACK = 64 << 20  # bytes that others on the machine may come to hold meanwhile


@pytest.fixture(params=FAMILIES)
def golden(request):
    with np.load(GOLDEN / request.param / "golden.npz") as arrays:
        found = dict(arrays)
    found["prompts"] = [row[:n] for row, n in zip(found["input_ids"], found["lengths"], strict=True)]
    return request.param, found


def test_logits_are_the_references(golden, open_golden, report):
    name, expected = golden
    logits = prefill_last(open_golden(name), expected["prompts"])
    last = [row[n - 1] for row, n in zip(expected["logits"], expected["lengths"], strict=True)]
    error = relative_errors(logits, last).max()
    report(f"{name}: ‖out − ref‖ / ‖ref‖", f"{error:.1e}", f"≤ {TOLERANCE:.0e}", error <= TOLERANCE)
    assert error <= TOLERANCE


def test_greedy_tokens_are_the_references_where_the_margin_allows(golden, open_golden, report):
    name, expected = golden
    sure, equal = greedy_agreement(open_golden(name), expected)
    report(f"{name}: greedy tokens", f"{equal} of {sure} equal", "all", equal == sure)
    assert 0 < sure == equal


def test_a_row_decodes_the_same_in_any_batch(golden, open_golden, report):
    """Up to what rounding may change."""
    name, expected = golden
    alone, together = alone_and_together(open_golden(name), expected["prompts"][:3])
    error = relative_errors(together, alone).max()
    report(f"{name}: alone against together", f"{error:.1e}", f"≤ {TOLERANCE:.0e}", error <= TOLERANCE)
    assert error <= TOLERANCE


def test_an_engine_answers_from_a_folder(golden_folders):
    """As `autoglm complete` does: loaded by one thread, run by another, two steps at work."""
    engine = Engine.load(golden_folders("glm"), device=DEVICE)
    engine.start()
    try:
        prompts = [
            Prompt([5, 6, 7, number], 20, Sampling(0.8, seed=number), ignore_eos=True) for number in range(12)
        ]
        waiting = [engine.submit(prompt) for prompt in prompts]
        assert [generation.wait(60).completion_tokens for generation in waiting] == [20] * 12
    finally:
        engine.close()


@pytest.mark.parametrize("rows", [1, 4, 16])
def test_step_times(edge, report, rows):
    runtime, _ = edge
    rows = min(rows, runtime.slots)
    waited, ahead, bare = (
        step_seconds(runtime, rows, 200, **how) for how in ({"ahead": False}, {}, {"draw": False})
    )
    name = f"1.5 B int4, {rows} rows"
    report(f"{name}: step", f"{ahead * 1e3:.3f} ms")
    report(f"{name}: step that waits for its tokens", f"{waited * 1e3:.3f} ms")
    report(f"{name}: tokens/s", f"{rows / ahead:,.0f}")
    share = ahead / bare - 1
    report(f"{name}: drawing and bookkeeping", f"{share:.1%} of a step", "< 5 %", share < 0.05)


def test_host_gap(edge, report):
    """What a step takes beyond its work on the device: against steps and draws that are enqueued blindly."""
    runtime, _ = edge
    table = choice_table([Sampling()], [0], [0])
    table["slot"] = 0
    runtime.finish()
    began = time.perf_counter()
    for position in range(200):
        runtime.decode(np.array([-1]), np.array([position]))
        runtime.sample(table)
    runtime.finish()
    blind = (time.perf_counter() - began) / 200
    gap = max(0.0, step_seconds(runtime, 1, 200) - blind)
    report("1.5 B int4, 1 row: host gap between steps", f"{gap * 1e6:.0f} µs", "< 50 µs", gap < 50e-6)


def test_share_of_the_bandwidth_limit(edge, report):
    """Against copying on this very device, which reads and writes each byte."""
    runtime, weights = edge
    device, size, runs = runtime._device, 512 << 20, 20
    block = device.allocate(2 * size)
    words = np.int32(size // 16)
    tables, pinned = device.allocate(256), device.pinned(8)
    pinned[:] = np.array([block], np.uint64).view(np.uint8)
    device.upload(tables, pinned)

    def copy():
        arguments = [np.uint64(tables), np.int64(0), np.int64(size), np.int64(0), words]
        device.launch("copy_slot", (4096, 1, 1), 256, arguments)

    copy()
    runtime.finish()
    began = time.perf_counter()
    for _ in range(runs):
        copy()
    runtime.finish()
    bandwidth = 2 * size * runs / (time.perf_counter() - began)
    share = weights / step_seconds(runtime, 1, 200) / bandwidth
    report("memory bandwidth, by copying", f"{bandwidth / 1e9:,.0f} GB/s")
    report("1.5 B int4, 1 row: weights read, share of it", f"{share:.2f}", "≥ 0.70", share >= 0.7)


def test_soak(edge, report):
    """Minutes of prefills, decodes, draws and moves: nothing grows, nothing fails, equal seeds stay equal."""
    runtime, _ = edge
    rng, began, count, seen = np.random.default_rng(0), time.monotonic(), 0, set()
    free, process, resident = runtime._device.memory()[0], psutil.Process(), 0
    prompt = rng.integers(1, runtime.vocab_size, 200)
    table = choice_table([Sampling(0.9, top_k=40, top_p=0.9)], [7], [1])
    while time.monotonic() - began < SOAK:
        runtime.prefill(range(1), [prompt], np.zeros(1, np.int64))
        seen.add(int(runtime.sample(table).wait()["token"][0]))
        runtime.copy_slot(0, runtime.slots - 1, 200)
        rows = int(rng.integers(1, runtime.slots + 1))
        step_seconds(runtime, rows, 50)
        count += 1
        resident = resident or process.memory_info().rss
    report("soak", f"{count} rounds in {time.monotonic() - began:.0f} s", "no failure", True)
    assert len(seen) == 1
    assert runtime._device.memory()[0] >= free - SLACK
    assert process.memory_info().rss <= resident + SLACK
