"""Cost estimates find the true costs of a made-up machine, and choose accordingly."""

import random

import pytest

from engines.serve.costs import StepCosts


def learned(per_call, per_token, step, **options):
    """Costs after watching a machine with these true seconds; step(rows) → seconds."""
    costs, rng = StepCosts(**options), random.Random(1)
    for _ in range(400):
        tokens = rng.choice([2, 5, 9, 40, 200])
        costs.record_prefill(tokens, per_call + tokens * per_token)
        rows = rng.randint(1, 64)
        costs.record_decode(rows, step(rows))
    return costs


def test_the_budget_fills_the_stall_and_no_more():
    costs = learned(1e-3, 1e-3, lambda rows: 1e-2, stall=0.1)
    assert costs.prefill_budget(decoding=True) == pytest.approx(99, abs=5)
    assert costs.prefill_budget(decoding=False) == costs.chunk


def test_a_slow_machine_still_makes_progress():
    assert learned(1.0, 1.0, lambda rows: 1.0).prefill_budget(decoding=True) == 16


def test_without_measurements_nothing_is_held_back():
    costs = StepCosts()
    assert costs.prefill_budget(decoding=True) == costs.chunk
    assert costs.prefill_pays(2, 64)


def test_forced_tokens_are_prefilled_when_a_step_costs_more():
    costs = learned(0.5e-3, 0.1e-3, lambda rows: 0.5e-3 + rows * 0.1e-3)
    assert costs.prefill_pays(5, 1)  # 5 × 0.6 ms alone against 1 ms
    assert not costs.prefill_pays(2, 64)  # 2 × 0.11 ms of shared steps against 0.7 ms


def test_noise_that_only_adds_is_left_out():
    costs, rng = StepCosts(), random.Random(1)
    for _ in range(400):
        late = rng.choice([0.0, 0.0, 5e-2])  # another process has had the core
        costs.record_decode(8, 1e-2 + late)
    assert costs.decode_seconds[(8).bit_length()] == pytest.approx(1e-2, rel=0.5)
