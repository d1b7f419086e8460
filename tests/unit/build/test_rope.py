"""Rotary tables of every type that GLM configs name."""

import math

import numpy as np
import pytest

from engines.build.fields import Fields
from engines.build.rope import parse_rope
from engines.errors import CheckpointError, UnsupportedModel

CONTEXT = 4096


def rope(width=64, share=0.5, **values):
    return parse_rope(Fields(values, "config.json"), width, share, interleaved=True, context=CONTEXT)


def frequencies(found):
    """Of each pair, read back from the first two positions."""
    cos, sin = found.tables(2)
    return np.arctan2(sin[1], cos[1]) / 1.0


def plain(dims, theta=10000.0):
    return theta ** -(np.arange(0, dims, 2) / dims)


def test_default_rotates_its_share_of_a_head():
    found = rope()
    cos, sin = found.tables(8)
    angles = np.arange(8)[:, None] * plain(32)
    np.testing.assert_allclose(cos, np.cos(angles), atol=1e-6)
    np.testing.assert_allclose(sin, np.sin(angles), atol=1e-6)
    assert rope(partial_rotary_factor=1.0).dims == 64
    assert rope(rope_parameters={"partial_rotary_factor": 1.0, "rope_theta": 5e5}).theta == 5e5


def test_the_share_of_a_head_may_be_odd():
    """As the reference: 3 of 6 elements asked for, so two pairs are rotated, at powers of thirds."""
    found = rope(6)
    assert found.dims == 4
    np.testing.assert_allclose(frequencies(found), [1, 10000.0 ** -(2 / 3)], rtol=1e-5)


@pytest.mark.parametrize("key", ["type", "rope_type"])
def test_linear_slows_every_pair(key):
    found = rope(rope_scaling={key: "linear", "factor": 4.0})
    np.testing.assert_allclose(frequencies(found), plain(32) / 4, rtol=1e-5)


def test_yarn_keeps_fast_pairs_and_slows_slow_ones():
    """The GLM-4-0414 model card's way to 128 thousand tokens."""
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
    found, base = rope(share=1.0, rope_scaling=scaling), plain(64)
    cos, _ = found.tables(1)
    assert cos[0, 0] == pytest.approx(0.1 * math.log(4) + 1)
    turns = 1024 * base / (2 * math.pi)
    ratio = frequencies(found) / base
    np.testing.assert_allclose(ratio[turns > 33], 1, rtol=1e-5)
    np.testing.assert_allclose(ratio[turns < 0.9], 1 / 4, rtol=1e-5)
    assert (np.diff(ratio) <= 1e-6).all() and ((ratio > 0.26) & (ratio < 0.99)).any()


def test_yarn_magnitude_of_latent_attention():
    scaling = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 512}
    found = rope(rope_scaling={**scaling, "mscale": 1.0, "mscale_all_dim": 1.0})
    assert found.magnitude == pytest.approx(1)
    assert found.softmax_magnitude == pytest.approx(0.1 * math.log(8) + 1)
    assert rope(rope_scaling={**scaling, "attention_factor": 1.5}).magnitude == 1.5


def test_scaling_that_was_added_to_parameters_counts():
    scaling = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
    found = rope(rope_scaling=scaling, rope_parameters={"rope_type": "default", "rope_theta": 5e5})
    assert (found.kind, found.factor, found.theta) == ("yarn", 4.0, 5e5)


def test_llama3_blends_between_its_two_wavelengths():
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    found, base = (
        rope(share=1.0, rope_scaling={**scaling, "original_max_position_embeddings": 1024}),
        plain(64),
    )
    turns, ratio = 1024 * base / (2 * math.pi), frequencies(found) / base
    np.testing.assert_allclose(ratio[turns > 4], 1, rtol=1e-5)
    np.testing.assert_allclose(ratio[turns < 1], 1 / 8, rtol=1e-5)
    between = (turns > 1) & (turns < 4)
    share = (turns[between] - 1) / 3
    np.testing.assert_allclose(ratio[between], share + (1 - share) / 8, rtol=1e-4)


def test_what_is_not_built_is_named():
    with pytest.raises(UnsupportedModel, match="rope_type = 'dynamic'"):
        rope(rope_scaling={"rope_type": "dynamic", "factor": 2.0})
    with pytest.raises(CheckpointError, match="factor is 'four'"):
        rope(rope_scaling={"rope_type": "yarn", "factor": "four"})


@pytest.mark.parametrize("wrong", [0, -1.0, math.inf])
@pytest.mark.parametrize(
    "key", ["rope_theta", "factor", "beta_fast", "beta_slow", "low_freq_factor", "attention_factor"]
)
def test_numbers_that_frequencies_cannot_be_made_of(key, wrong):
    with pytest.raises(CheckpointError, match=f"{key} is {wrong}; it must be a finite number above 0"):
        rope(rope_scaling={"rope_type": "yarn", key: wrong})


def test_magnitudes_may_be_switched_off():
    assert rope(rope_scaling={"rope_type": "yarn", "factor": 4.0, "mscale": 0, "mscale_all_dim": 0})
