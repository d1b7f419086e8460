"""The kernels on the device against their numpy twins: bit for bit."""

import time

import numpy as np
import pytest

from engines.serve.kernels.table import DRAW, choice_table
from engines.serve.prompt import Sampling
from engines.serve.runtime.trt.device import launch
from engines.serve.sampler import draw

VOCABULARIES = (257, 59_264, 151_552)
CHOICES = [
    Sampling(),
    Sampling(0.7),
    Sampling(1.0, top_k=50),
    Sampling(0.8, top_p=0.9),
    Sampling(1.2, top_k=200, top_p=0.95, min_p=0.02, repetition_penalty=1.2),
]


class OnDevice:
    """Arrays sent once, draws read back."""

    def __init__(self, device, logits, table, allowed, seen):
        self.device, self.rows = device, len(table)
        self.addresses = [self._send(array) for array in (logits, table, allowed, seen)]
        self.draws, self.latest = device.allocate(self.rows * DRAW.itemsize), device.allocate(4 * self.rows)
        self.width = logits.shape[1]
        self.result = device.pinned(self.rows * DRAW.itemsize)

    def _send(self, array):
        address, pinned = self.device.allocate(array.nbytes), self.device.pinned(array.nbytes)
        pinned[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self.device.upload(address, pinned)
        self.wait()
        return address

    def wait(self):
        event = self.device.record()
        while not event.query():
            pass

    def run(self):
        logits, table, allowed, seen = self.addresses
        launch(
            self.device,
            *("sample", (self.rows, 1, 1), 1024),
            *(logits, np.int32(self.width), allowed, seen, table, self.draws, self.latest),
        )

    def read(self):
        self.run()
        self.device.download(self.result, self.draws)
        self.wait()
        return self.result.view(DRAW).copy()


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


@pytest.mark.parametrize("width", VOCABULARIES)
@pytest.mark.parametrize("seed", range(3))
def test_draws_equal_numpys(device, width, seed):
    logits, table, allowed, seen = case(width, 40, seed)
    actual = OnDevice(device, logits, table, allowed, seen).read()
    np.testing.assert_array_equal(actual, draw(logits, table, allowed, seen))


@pytest.mark.parametrize("rows", [1, 64])
@pytest.mark.parametrize("choice", CHOICES[:4], ids=["greedy", "all", "top-k", "top-p"])
def test_time_of_a_draw(device, report, rows, choice):
    logits, table, allowed, seen = case(59_264, rows, 0)
    table = choice_table([choice] * rows, [1] * rows, range(rows))
    work, runs = OnDevice(device, logits, table, allowed, seen), 200
    work.read()
    began = time.perf_counter()
    for _ in range(runs):
        work.run()
    work.wait()
    report(f"sampling {rows} rows of 59,264", f"{(time.perf_counter() - began) / runs * 1e6:.0f} µs")
