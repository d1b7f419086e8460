"""The kernels on the device against their numpy twins: bit for bit."""

import ctypes
import time

import numpy as np
import pytest

from engines.serve.kernels.table import DRAW, choice_table
from engines.serve.prompt import Sampling
from engines.serve.runtime.trt.device import launch
from engines.serve.runtime.trt.driver import CALLS
from engines.serve.runtime.trt.watchdog import wait_until
from engines.serve.sampler import draw

VOCABULARIES = (257, 59_264, 151_552)
CHOICES = [
    Sampling(),
    Sampling(0.7),
    Sampling(1.0, top_k=50),
    Sampling(0.8, top_p=0.9),
    Sampling(1.2, top_k=200, top_p=0.95, min_p=0.02, repetition_penalty=1.2),
]


def send(device, array):
    """Its address on the device."""
    address, pinned = device.allocate(array.nbytes), device.pinned(array.nbytes)
    pinned[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    device.upload(address, pinned)
    wait(device)
    return address


def receive(device, address, like):
    """What is at `address`, in the shape and type of an array."""
    pinned = device.pinned(like.nbytes)
    device.download(pinned, address)
    wait(device)
    return pinned.view(like.dtype).reshape(like.shape).copy()


def wait(device):
    wait_until(device.record().query, 60.0)


class OnDevice:
    """Arrays sent once, draws read back."""

    def __init__(self, device, logits, table, allowed, seen):
        self.device, self.rows = device, len(table)
        self.addresses = [send(device, array) for array in (logits, table, allowed, seen)]
        self.draws, self.latest = device.allocate(self.rows * DRAW.itemsize), device.allocate(4 * self.rows)
        self.width = logits.shape[1]

    def run(self):
        logits, table, allowed, seen = self.addresses
        launch(
            self.device,
            *("sample", (self.rows, 1, 1), 1024),
            *(logits, np.int32(self.width), allowed, seen, table, self.draws, self.latest),
        )

    def read(self):
        self.run()
        return receive(self.device, self.draws, np.zeros(self.rows, DRAW))


def case(width, rows, seed):
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(rows, width)) * 4).astype(np.float32)
    logits[::3] = np.round(logits[::3])
    bits = rng.integers(-(2**31), 2**31, (rows, -(-width // 32)), np.int64).astype(np.int32)
    table = choice_table(
        [CHOICES[i % len(CHOICES)] for i in range(rows)],
        rng.integers(0, 2**64, rows, np.uint64),
        rng.integers(0, 4096, rows),
    )
    table["measured"] = 1
    table["seen"] = np.arange(rows)
    table["allowed"] = np.where(np.arange(rows) % 2, np.arange(rows), -1)
    return logits, table, bits, np.roll(bits, 1, axis=0)


@pytest.mark.usefixtures("gpu")
def test_the_driver_has_every_call():
    library = ctypes.CDLL("libcuda.so.1")
    assert not [name for name in CALLS if not hasattr(library, name)]


@pytest.mark.parametrize("width", VOCABULARIES)
@pytest.mark.parametrize("seed", range(3))
def test_draws_equal_numpys(device, width, seed):
    logits, table, allowed, seen = case(width, 40, seed)
    actual = OnDevice(device, logits, table, allowed, seen).read()
    np.testing.assert_array_equal(actual, draw(logits, table, allowed, seen))


def test_a_copied_prefix_is_in_every_cache_and_nothing_else_changes(device):
    slots, heads, capacity, width, length = 4, 3, 64, 64, 37
    rng = np.random.default_rng(0)
    caches = [rng.integers(0, 2**16, (slots, heads, capacity, width)).astype(np.uint16) for _ in range(4)]
    addresses = [send(device, cache) for cache in caches]
    pitch = capacity * width * 2
    launch(
        device,
        *("copy_slot", (2, heads, len(caches)), 256),
        *(send(device, np.array(addresses, np.uint64)), np.int64(3 * heads * pitch), np.int64(heads * pitch)),
        *(np.int64(pitch), np.int32(length * width * 2 // 16)),
    )
    for cache, address in zip(caches, addresses, strict=True):
        found = receive(device, address, cache)
        cache[1, :, :length] = cache[3, :, :length]
        np.testing.assert_array_equal(found, cache)


@pytest.mark.parametrize("captured", [False, True])
def test_ids_come_from_the_host_or_from_the_last_draw(device, captured):
    given, latest = np.array([5, -3, 0, -1], np.int64), np.array([70, 71, 72], np.int32)
    ids = send(device, np.full(6, -9, np.int64))
    arguments = (ids, send(device, given), send(device, latest), np.int32(4))

    def feed():
        launch(device, "feed", (1, 1, 1), 256, *arguments)

    if captured:
        feed = device.capture(feed)
        assert receive(device, ids, np.zeros(6, np.int64)).tolist() == [-9] * 6, "capturing runs nothing"
    feed()
    assert receive(device, ids, np.zeros(6, np.int64)).tolist() == [5, 72, 0, 70, -9, -9]


@pytest.mark.parametrize("rows", [1, 64])
@pytest.mark.parametrize(
    ("kind", "choice"), list(zip(("greedy", "all", "top-k", "top-p"), CHOICES, strict=False))
)
def test_time_of_a_draw(device, report, rows, kind, choice):
    logits, table, allowed, seen = case(59_264, rows, 0)
    table = choice_table([choice] * rows, [1] * rows, range(rows))
    work, runs = OnDevice(device, logits, table, allowed, seen), 200
    work.read()
    began = time.perf_counter()
    for _ in range(runs):
        work.run()
    wait(device)
    seconds = (time.perf_counter() - began) / runs
    report(f"sampling, {kind}, {rows} rows of 59,264", f"{seconds * 1e6:.0f} µs")
