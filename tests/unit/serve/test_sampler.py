"""Sampling against distributions computed straight from the definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import InvalidPrompt
from engines.serve.kernels.table import choice_table, log_probabilities
from engines.serve.philox import philox, random_bits
from engines.serve.prompt import Sampling
from engines.serve.sampler import _pick, _weights, draw


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # known answers published with Random123 (kat_vectors, philox4x32 10)
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_numbers(counter, key, words):
    keys = np.array([key[0] | key[1] << 32], np.uint64)
    counters = tuple(np.array([c], np.uint64) for c in counter)
    assert tuple(int(word[0]) for word in philox(keys, counters)) == words


def test_random_bits_are_uniform():
    bits = random_bits(np.full(20_000, 7, np.uint64), np.arange(20_000, dtype=np.uint64))
    counts, _ = np.histogram(bits / 2.0**64, bins=20, range=(0, 1))
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # chi-squared, 19 degrees of freedom, 0.1 %


def sample(logits, choices, seeds, positions):
    return draw(logits, choice_table(choices, seeds, positions))["token"]


def reference(logits, choice):
    """Probabilities by the textbook, one row."""
    weights = np.exp((logits.astype(np.float64) - logits.max()) / choice.temperature)
    order = np.argsort(-weights, kind="stable")
    keep = len(order) if not choice.top_k else min(choice.top_k, len(order))
    kept = order[:keep]
    shares = weights[kept] / weights[kept].sum()
    last = int(np.searchsorted(np.cumsum(shares), choice.top_p - 1e-12)) + 1 if choice.top_p < 1 else keep
    result = np.zeros(len(weights))
    result[kept[:last]] = weights[kept[:last]]
    return result / result.sum()


@pytest.mark.parametrize(
    "choice",
    [
        Sampling(1.0),
        Sampling(0.5),
        Sampling(1.3, top_k=5),
        Sampling(1.0, top_p=0.8),
        Sampling(0.8, top_k=6, top_p=0.7),
        Sampling(1.0, top_k=1),
    ],
)
@pytest.mark.parametrize("spread", [0, 300])
def test_draws_follow_the_distribution(choice, spread):
    """spread: that many hopeless tokens in between do not matter."""
    rng, draws = np.random.default_rng(3), 5_000
    logits = rng.normal(size=12).astype(np.float32) * 2
    if spread:
        wide = np.full(12 + spread, -200, np.float32)
        places = np.sort(rng.permutation(12 + spread)[:12])
        wide[places] = logits
        tokens = sample(np.tile(wide, (draws, 1)), [choice] * draws, [11] * draws, range(draws))
        assert np.isin(tokens, places).all()
        _compare(np.searchsorted(places, tokens), logits, choice)
        return
    tokens = sample(np.tile(logits, (draws, 1)), [choice] * draws, [11] * draws, range(draws))
    _compare(tokens, logits, choice)


def _compare(tokens, logits, choice):
    expected = reference(logits, choice) * len(tokens)
    counts = np.bincount(tokens, minlength=12)
    assert not counts[expected == 0].any()
    used = expected > 0
    assert (
        (counts[used] - expected[used]) ** 2 / expected[used]
    ).sum() < 31.3  # 11 degrees of freedom, 0.1 %


choices = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.3, 1.0]),
    top_k=st.sampled_from([0, 1, 3]),
    top_p=st.sampled_from([0.5, 1.0]),
)


@given(st.lists(st.tuples(choices, st.integers(0, 2**64 - 1), st.integers(0, 999)), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_a_row_draws_the_same_alone_and_in_a_batch(rows):
    logits = np.random.default_rng(len(rows)).normal(size=(len(rows), 30)).astype(np.float32)
    picks, seeds, positions = zip(*rows, strict=True)
    together = sample(logits.copy(), picks, seeds, positions)
    alone = [
        sample(logits[i : i + 1].copy(), picks[i : i + 1], seeds[i : i + 1], positions[i : i + 1])[0]
        for i in range(len(rows))
    ]
    assert together.tolist() == alone


def test_masked_tokens_are_never_drawn():
    logits = np.random.default_rng(0).normal(size=(3, 70)).astype(np.float32)
    before = logits.copy()
    bits = np.zeros((2, 3), np.int32)
    bits[0, 2] = 1 << 3  # token 67
    bits[1, 0] = (1 << 4) | (1 << 9)
    table = choice_table([Sampling(5.0)] * 300, [1] * 300, range(300))
    table["logits"], table["allowed"] = np.tile([0, 1, 2], 100), np.tile([0, -1, 1], 100)
    tokens = draw(logits, table, bits)["token"].reshape(100, 3)
    assert (logits == before).all()
    assert set(tokens[:, 0]) == {67}
    assert set(tokens[:, 2]) == {4, 9}
    assert len(set(tokens[:, 1])) > 20


def test_a_penalty_makes_seen_tokens_less_likely_whatever_their_sign():
    logits = np.array([[4.0, 3.0, -1.0, -1.5]], np.float32)
    table = choice_table([Sampling(repetition_penalty=2.0)] * 2, [0, 0], [0, 0])
    table["logits"], table["seen"] = 0, [0, 1]
    draws = draw(logits, table, seen=np.array([[0b0001], [0b0011]], np.int32))
    assert draws["token"].tolist() == [1, 0]
    low = choice_table([Sampling(repetition_penalty=2.0)], [0], [0])
    low["seen"] = 0
    assert draw(logits[:, 2:], low, seen=np.array([[0b01]], np.int32))["token"].tolist() == [1]


def test_min_p_keeps_what_is_near_the_best():
    logits = np.log(np.array([[0.5, 0.3, 0.15, 0.05]], np.float32))
    table = choice_table([Sampling(1.0, min_p=0.31)] * 400, [3] * 400, range(400))
    table["logits"] = 0
    assert set(draw(logits, table)["token"]) == {0, 1}


def test_log_probabilities_are_of_the_model_alone():
    logits = np.random.default_rng(2).normal(size=(3, 500)).astype(np.float32) * 3
    table = choice_table(
        [Sampling(), Sampling(0.3, top_k=2), Sampling(2.0, repetition_penalty=3.0)], [1] * 3, [4] * 3
    )
    table["measured"] = [1, 1, 0]
    draws = draw(logits, table)
    expected = logits[[0, 1], draws["token"][:2]] - np.log(np.exp(logits[:2].astype(np.float64)).sum(axis=1))
    np.testing.assert_allclose(log_probabilities(draws)[:2], expected, atol=1e-5)
    assert np.isnan(log_probabilities(draws)[2])


def test_a_row_without_finite_logits_is_told():
    logits = np.array([[1.0, np.nan], [-np.inf, -np.inf], [0.0, 2.0]], np.float32)
    assert sample(logits, [Sampling(), Sampling(1.0), Sampling(1e-30)], [0] * 3, [0] * 3).tolist() == [
        -1,
        -1,
        1,
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"min_p": 1.5},
        {"repetition_penalty": 0.0},
        {"seed": -1},
    ],
)
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(InvalidPrompt, match=next(iter(wrong))):
        Sampling(**wrong)


@given(
    seed=st.integers(0, 999),
    width=st.integers(2, 700),
    top_k=st.integers(0, 300),
    top_p=st.sampled_from([0.05, 0.5, 0.999, 1.0]),
    number=st.floats(0, 1, exclude_max=True),
)
@settings(max_examples=150, deadline=None)
def test_every_draw_is_the_one_that_its_number_picks(seed, width, top_k, top_p, number):
    logits = np.random.default_rng(seed).normal(size=(1, width)).astype(np.float32) * 3
    choice = Sampling(0.7, top_k, top_p)
    row = choice_table([choice], [0], [0])
    token = _pick(_weights(logits, logits.max(axis=1), row["scale"])[0], row[0], int(number * 2**64))
    shares = reference(logits[0], choice)
    assert shares[token] > 0
    ends = np.cumsum(shares)
    assert ends[token] - shares[token] - 1e-5 <= number <= ends[token] + 1e-5
