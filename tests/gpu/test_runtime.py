"""TensorRT's logits against the reference, and what a step costs."""

import os
import time

import numpy as np
import pytest

from engines.serve.kernels.table import choice_table
from engines.serve.prompt import Sampling
from tests.gpu.conftest import GOLDEN

FAMILIES = ("glm", "glm-edge-tied", "glm4", "glm4-moe", "glm4-moe-groups", "glm4-moe-lite")
TOLERANCE = 1e-2  # of the norm of a row's logits, in bfloat16
SOAK = float(os.environ.get("AUTOGLM_SOAK_SECONDS", "600"))


def ids(tokens):
    return np.array(tokens, np.int64)


@pytest.fixture(params=FAMILIES)
def golden(request):
    with np.load(GOLDEN / request.param / "golden.npz") as arrays:
        found = dict(arrays)
    found["prompts"] = [row[:n] for row, n in zip(found["input_ids"], found["lengths"], strict=True)]
    return request.param, found


def test_logits_are_the_references(golden, open_golden, report):
    name, expected = golden
    runtime = open_golden(name)
    prompts = expected["prompts"]
    runtime.prefill(range(len(prompts)), prompts, np.zeros(len(prompts), np.int64))
    logits = runtime.logits(range(len(prompts)))
    last = np.array([row[n - 1] for row, n in zip(expected["logits"], expected["lengths"], strict=True)])
    error = np.linalg.norm(logits - last, axis=1) / np.linalg.norm(last, axis=1)
    report(f"{name}: ‖out − ref‖ / ‖ref‖", f"{error.max():.1e}")
    assert error.max() <= TOLERANCE


def test_a_row_decodes_the_same_in_any_batch(golden, open_golden):
    """Up to what rounding may change: the logits stay within the tolerance of those of a batch of one."""
    name, expected = golden
    runtime, prompts = open_golden(name), expected["prompts"][:3]
    alone = []
    for prompt in prompts:
        runtime.prefill(range(1), [prompt[:-1]], ids([0]))
        runtime.decode(prompt[-1:], ids([len(prompt) - 1]))
        alone.append(runtime.logits(range(1))[0])
    runtime.prefill(range(3), [p[:-1] for p in prompts], np.zeros(3, np.int64))
    runtime.decode(ids([p[-1] for p in prompts]), ids([len(p) - 1 for p in prompts]))
    for together, one in zip(runtime.logits(range(3)), alone, strict=True):
        assert np.linalg.norm(together - one) <= TOLERANCE * np.linalg.norm(one)


def steps(runtime, rows, count, lookahead):
    """Seconds per step of decode and draw. lookahead: enqueue one before the last one's tokens are read."""
    table = choice_table([Sampling()] * rows, [0] * rows, [0] * rows)
    table["slot"] = np.arange(rows)
    fed = -1 - np.arange(rows)
    runtime.decode(np.ones(rows, np.int64), np.zeros(rows, np.int64))
    pending = runtime.sample(table)
    runtime.finish()
    began = time.perf_counter()
    for position in range(1, count + 1):
        if not lookahead:
            pending.wait()
        runtime.decode(fed, np.full(rows, position % runtime.capacity))
        before, pending = pending, runtime.sample(table)
        before.wait()
    pending.wait()
    return (time.perf_counter() - began) / count


@pytest.mark.parametrize("rows", [1, 4, 16])
def test_step_times(edge, report, rows):
    runtime, weights = edge
    rows = min(rows, runtime.slots)
    waited, ahead = steps(runtime, rows, 200, False), steps(runtime, rows, 200, True)
    report(f"1.5 B int4, {rows} rows: step", f"{ahead * 1e3:.2f} ms, {waited * 1e3:.2f} ms without lookahead")
    report(
        f"1.5 B int4, {rows} rows",
        f"{rows / ahead:,.0f} tokens/s, weights read at {weights / ahead / 1e9:,.0f} GB/s",
    )


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

    def wait():
        event = device.record()
        while not event.query():
            pass

    copy()
    wait()
    began = time.perf_counter()
    for _ in range(runs):
        copy()
    wait()
    bandwidth = 2 * size * runs / (time.perf_counter() - began)
    share = weights / steps(runtime, 1, 200, True) / bandwidth
    report("memory bandwidth, by copying", f"{bandwidth / 1e9:,.0f} GB/s")
    report("1.5 B int4, 1 row: share of it", f"{share:.2f}")


def test_soak(edge, report):
    """Minutes of prefills, decodes, draws and moves: nothing grows, nothing fails, equal seeds stay equal."""
    runtime, _ = edge
    rng, began, count, seen = np.random.default_rng(0), time.monotonic(), 0, set()
    free = runtime._device.memory()[0]
    prompt = rng.integers(1, runtime.vocab_size, 200)
    table = choice_table([Sampling(0.9, top_k=40, top_p=0.9)], [7], [1])
    while time.monotonic() - began < SOAK:
        runtime.prefill(range(1), [prompt], ids([0]))
        seen.add(int(runtime.sample(table).wait()["token"][0]))
        runtime.copy_slot(0, runtime.slots - 1, 200)
        rows = int(rng.integers(1, runtime.slots + 1))
        steps(runtime, rows, 50, True)
        count += 1
    assert len(seen) == 1
    assert runtime._device.memory()[0] >= free
    report("soak", f"{count} rounds in {time.monotonic() - began:.0f} s")
