"""The kernels' own source, executed thread by thread on the CPU, against their numpy twins: bit for bit."""

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.serve.kernels.table import CHOICE, DRAW, choice_table
from engines.serve.prompt import Sampling
from engines.serve.sampler import draw
from tests.unit.gpu.emulator import emulated_draw, pointer

samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 1e-30, 0.2, 0.7, 1.0, 3.0, 1e30]),
    top_k=st.sampled_from([0, 0, 1, 2, 20, 5000]),
    top_p=st.sampled_from([1.0, 1.0, 0.01, 0.5, 0.9, 0.999999]),
    min_p=st.sampled_from([0.0, 0.0, 0.05, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.5]),
)


def random_bits(rng, rows, width, share):
    bits = rng.random((rows, -(-width // 32) * 32)) < share
    bits[:, rng.integers(width)] = True
    return np.packbits(bits, axis=1, bitorder="little").view(np.int32)


def random_logits(rng, rows, width, kind):
    logits = (rng.normal(size=(rows, width)) * 4).astype(np.float32)
    if kind == "ties":
        logits = np.round(logits)
    elif kind == "flat":
        logits[:] = rng.normal()
    elif kind == "peaked":
        logits[:, rng.integers(width)] += 60
    elif kind == "broken":
        logits[rng.random((rows, width)) < 0.01] = rng.choice([np.nan, np.inf, -np.inf])
    elif kind == "zeros":
        logits = np.where(rng.random((rows, width)) < 0.5, np.float32(0.0), np.float32(-0.0))
    return logits


def test_the_structures_have_one_layout(emulated):
    assert (emulated.sizes(0), emulated.sizes(1)) == (CHOICE.itemsize, DRAW.itemsize)


@given(
    choices=st.lists(samplings, min_size=1, max_size=4),
    width=st.sampled_from([1, 2, 31, 33, 64, 257, 1500]),
    kind=st.sampled_from(["normal", "ties", "flat", "peaked", "broken", "zeros"]),
    threads=st.sampled_from([32, 64, 256]),
    masked=st.booleans(),
    number=st.integers(0, 2**64 - 1),
)
@settings(max_examples=60, deadline=None)
def test_the_kernel_draws_what_its_twin_draws(emulated, choices, width, kind, threads, masked, number):
    rng = np.random.default_rng(number)
    rows = len(choices)
    logits = random_logits(rng, rows + 1, width, kind)
    table = choice_table(
        choices, rng.integers(0, 2**64, rows, np.uint64), range(number % 1000, number % 1000 + rows)
    )
    table["logits"] = rng.integers(rows + 1, size=rows)
    table["measured"] = rng.integers(2, size=rows)
    table["slot"] = np.arange(rows)[::-1]
    allowed, seen = random_bits(rng, rows, width, 0.3), random_bits(rng, rows, width, 0.2)
    if masked:
        table["allowed"] = np.where(rng.random(rows) < 0.7, np.arange(rows), -1)
        table["seen"] = np.where(rng.random(rows) < 0.7, np.arange(rows)[::-1], -1)
    before = logits.copy()
    latest = np.full(rows, 7, np.int32)
    actual = emulated_draw(emulated, logits, table, allowed, seen, threads=threads, latest=latest)
    expected = draw(logits, table, allowed, seen)
    for name in DRAW.names:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)
    np.testing.assert_array_equal(logits, before)
    np.testing.assert_array_equal(latest[::-1], np.maximum(expected["token"], 0))


def test_a_real_vocabulary_fits(emulated):
    logits = random_logits(np.random.default_rng(1), 1, 151_552, "normal")
    choice = Sampling(0.8, top_k=50, top_p=0.9, seed=3)
    table = choice_table([choice, choice, Sampling(1.0)], [3, 4, 5], [9, 9, 9])
    table["logits"], table["measured"] = 0, 1
    np.testing.assert_array_equal(emulated_draw(emulated, logits, table, threads=32), draw(logits, table))


@pytest.mark.parametrize("length", [0, 1, 5, 16])
def test_a_copied_prefix_is_in_every_cache_and_nothing_else_changes(emulated, length):
    slots, heads, capacity, width = 4, 3, 16, 8
    rng = np.random.default_rng(length)
    caches = [rng.normal(size=(slots, heads, capacity, width)).astype(np.float32) for _ in range(3)]
    expected = [cache.copy() for cache in caches]
    for cache in expected:
        cache[1, :, :length] = cache[3, :, :length]
    addresses = np.array([cache.ctypes.data for cache in caches], np.uint64)
    pitch = capacity * width * 4
    emulated.run_copy_slot(
        *(2, heads, len(caches), 32, pointer(addresses)),
        *map(ctypes.c_longlong, (3 * heads * pitch, heads * pitch, pitch)),
        length * width * 4 // 16,
    )
    for cache, wanted in zip(caches, expected, strict=True):
        np.testing.assert_array_equal(cache, wanted)


def test_ids_come_from_the_host_or_from_the_last_draw(emulated):
    given_ids, latest = np.array([5, -3, 0, -1], np.int64), np.array([70, 71, 72], np.int32)
    ids = np.full(6, -9, np.int64)
    emulated.run_feed(2, 32, *map(pointer, (ids, given_ids, latest)), 4)
    assert ids.tolist() == [5, 72, 0, 70, -9, -9]
