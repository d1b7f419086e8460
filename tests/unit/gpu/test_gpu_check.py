"""The tests for GPU hosts, on the emulated GPU: they are right before the first GPU comes."""

import numpy as np
import pytest

import tests.gpu.test_runtime as on_gpu
from engines.serve.sampler import draw
from tests.gpu.measures import Line
from tests.gpu.test_kernels import case
from tests.gpu.test_kernels import test_a_copied_prefix_is_in_every_cache_and_nothing_else_changes as copies
from tests.gpu.test_kernels import test_draws_equal_numpys as draws
from tests.gpu.test_kernels import test_ids_come_from_the_host_or_from_the_last_draw as feeds
from tests.gpu.test_kernels import test_time_of_a_draw as draw_times
from tests.unit.conftest import GOLDEN
from tests.unit.gpu.emulated_device import EmulatedDevice


@pytest.fixture
def device(emulated):
    return EmulatedDevice(emulated)


@pytest.fixture
def lines():
    return []


@pytest.fixture
def report(lines):
    return lambda *line: lines.append(Line(*line))


@pytest.fixture
def edge(open_emulated):
    """A plan of the emulation, and the bytes that a step is said to read."""
    return open_emulated(slots=3, capacity=255), 10**6


def test_kernels(device):
    draws(device, 257, 0)
    copies(device)
    for captured in (False, True):
        feeds(device, captured)


def test_a_kernel_that_is_wrong_is_found(device, monkeypatch):
    def other(*arguments):
        expected = draw(*arguments)
        expected["total"][5] += 1
        return expected

    monkeypatch.setattr("tests.gpu.test_kernels.draw", other)
    with pytest.raises(AssertionError, match="Mismatched elements: 1 / 40"):
        draws(device, 257, 0)


def test_drawing_is_timed(device, report, lines, monkeypatch):
    monkeypatch.setattr("tests.gpu.test_kernels.case", lambda width, rows, seed: case(257, rows, seed))
    draw_times(device, report, 1, "greedy", on_gpu.Sampling())
    assert lines[0].what == "sampling, greedy, 1 rows of 59,264"


@pytest.mark.parametrize("name", ["glm", "glm-edge-tied"])
def test_parity(open_emulated, report, lines, name):
    with np.load(GOLDEN / name / "golden.npz") as arrays:
        found = dict(arrays)
    found["prompts"] = [row[:n] for row, n in zip(found["input_ids"], found["lengths"], strict=True)]
    for test in (
        on_gpu.test_logits_are_the_references,
        on_gpu.test_greedy_tokens_are_the_references_where_the_margin_allows,
        on_gpu.test_a_row_decodes_the_same_in_any_batch,
    ):
        test((name, found), open_emulated, report)
    assert [line.met for line in lines] == [True] * 3


def test_times_and_soak(edge, report, lines, monkeypatch):
    monkeypatch.setattr(on_gpu, "SOAK", 0.2)
    on_gpu.test_step_times(edge, report, 4)
    on_gpu.test_host_gap(edge, report)
    on_gpu.test_soak(edge, report)
    assert [line.what.split(":")[0] for line in lines][-2:] == ["1.5 B int4, 1 row", "soak"]
    assert lines[-1].met
