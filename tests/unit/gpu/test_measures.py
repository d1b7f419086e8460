"""What `make gpu-check` measures, tried on the emulated GPU: it finds what is right and what is wrong."""

import numpy as np
import pytest

from engines.manifest import Manifest
from tests.gpu.measures import (
    Line,
    alone_and_together,
    bytes_per_step,
    greedy_agreement,
    prefill_last,
    relative_errors,
    step_seconds,
    table,
)


@pytest.fixture
def case(golden):
    """As tests/gpu reads it."""
    found = dict(golden["glm"])
    found["prompts"] = [np.array(prompt, np.int64) for prompt in found["prompts"]]
    return found


def test_parity_of_an_exact_runtime_is_perfect(open_emulated, case):
    runtime = open_emulated(slots=4)
    last = [row[n - 1] for row, n in zip(case["logits"], case["lengths"], strict=True)]
    assert relative_errors(prefill_last(runtime, case["prompts"]), last).max() < 1e-5
    sure, equal = greedy_agreement(runtime, case)
    assert 48 < sure == equal
    alone, together = alone_and_together(runtime, case["prompts"][:3])
    assert relative_errors(together, alone).max() < 1e-5


def test_a_wrong_token_or_logit_is_found(open_emulated, case):
    runtime = open_emulated(slots=4)
    sure, _ = greedy_agreement(runtime, case)
    case["generated"] = case["generated"].copy()
    case["generated"][:, 3] += 1
    again, equal = greedy_agreement(runtime, case)
    assert again == sure and equal < sure
    logits = prefill_last(runtime, case["prompts"])
    assert relative_errors(logits * 1.02, logits).min() == pytest.approx(0.02)


@pytest.mark.parametrize("how", [{}, {"ahead": False}, {"draw": False}])
def test_steps_are_asked_for_as_the_engine_does(open_emulated, how):
    runtime = open_emulated(slots=4, capacity=15)
    assert step_seconds(runtime, 3, 20, **how) > 0  # past the capacity, too


def test_the_table_of_embeddings_is_not_read_in_a_step(folders):
    sizes = Manifest.load(folders / "glm").sizes
    assert bytes_per_step(10**6, sizes) == 10**6 - 2 * sizes.vocab_size * sizes.hidden


def test_the_table_says_what_is_missed():
    lines = table([Line("step", "0.5 ms"), Line("gap", "70 µs", "< 50 µs", False), Line("a", "b", "c", True)])
    assert lines == [
        "what  measured  goal",
        "step  0.5 ms",
        "gap   70 µs     < 50 µs  MISSED",
        "a     b         c        ok",
    ]
