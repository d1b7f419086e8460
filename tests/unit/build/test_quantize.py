"""Formats, rounding, GPTQ, packing."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.build.gptq import _spread, gptq
from engines.build.quantize import Format, best_scales, block_for, full_scales, pack, round_to_nearest

FORMATS = [Format(4, 32), Format(4, 128), Format(8, 64), Format(8, 256), Format(8, 256, floating=True)]


def weights(rows=8, columns=256, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def correlated(tokens=600, columns=256, rank=24, seed=1):
    """Inputs that mostly lie in a small space, as hidden states do."""
    source = np.random.default_rng(seed)
    mixing = source.standard_normal((rank, columns))
    inputs = source.standard_normal((tokens, rank)) @ mixing + 0.1 * source.standard_normal((tokens, columns))
    return inputs.astype(np.float32)


@pytest.mark.parametrize("form", FORMATS, ids=str)
@given(seed=st.integers(0, 2**32 - 1), magnitude=st.floats(-6, 3))
def test_rounding_stays_within_half_a_step(form, seed, magnitude):
    weight = weights(seed=seed) * np.float32(10**magnitude)
    found = round_to_nearest(weight, form)
    assert found.codes.dtype == form.dtype and found.scales.shape == (8, 256 // form.block)
    errors = np.abs(found.dequantized() - weight)
    if form.floating:  # 3 bits after the leading one, and steps of 2^-9 below 2^-6
        step = np.maximum(np.abs(weight) * 2**-4, found.scales.repeat(256, 1) * 2**-10)
        assert (errors <= step * 1.001).all()
    elif form.bits == 8:
        assert (errors <= found.scales.repeat(form.block, 1) * 0.501).all()
    else:  # clipping may cost single weights more, the block never
        blocks = (8, -1, form.block)
        scales = full_scales(weight.reshape(blocks), form)
        unclipped = form.encode(weight.reshape(blocks) / scales[..., None]) * scales[..., None]
        worst = np.square(unclipped - weight.reshape(blocks)).sum(-1)
        assert (np.square(errors).reshape(blocks).sum(-1) <= worst * 1.001).all()


@pytest.mark.parametrize("form", FORMATS, ids=str)
def test_zeros_stay_zeros(form):
    assert not round_to_nearest(np.zeros((2, 256), np.float32), form).dequantized().any()


def test_float_codes_are_those_of_the_standard():
    form = Format(8, 4, floating=True)
    values = np.array([[448, -448, 1.0625, 1000]], np.float32)
    assert form.encode(values).astype(np.float32).tolist() == [[448, -448, 1.0, 448]]
    assert form.encode(values).dtype == ml_dtypes.float8_e4m3fn


def test_blocks_divide_the_width():
    assert [block_for(width, 128) for width in (256, 192, 96, 48, 40)] == [128, 64, 32, 16, None]
    assert block_for(256, 64) == 64


@given(st.lists(st.integers(-8, 7), min_size=2, max_size=64).filter(lambda codes: len(codes) % 2 == 0))
def test_packed_nibbles(codes):
    array = np.array(codes, np.int8)
    signed, shifted = (pack(array, Format(4, 16), signed=flag) for flag in (True, False))
    low, high = signed & 15, signed >> 4
    back = np.stack([low, high], 1).reshape(-1).astype(np.int8)
    assert np.where(back > 7, back - 16, back).tolist() == codes
    assert (np.stack([shifted & 15, shifted >> 4], 1).reshape(-1).astype(int) - 8).tolist() == codes


@pytest.mark.parametrize("form", FORMATS, ids=str)
def test_gptq_keeps_the_outputs_closer_than_rounding(form):
    weight, inputs = weights(64), correlated()
    seen, unseen = inputs[:500], inputs[500:]
    answers = gptq(weight, seen.T @ seen, form), round_to_nearest(weight, form)
    for tokens in (seen, unseen):
        solved, rounded = (np.square(tokens @ (a.dequantized() - weight).T).mean() for a in answers)
        assert solved < 0.5 * rounded


def test_gptq_of_uncorrelated_inputs_is_rounding():
    weight, form = weights(), Format(8, 64)
    np.testing.assert_array_equal(
        gptq(weight, np.eye(256, dtype=np.float32), form).codes, round_to_nearest(weight, form).codes
    )


def test_gptq_survives_inputs_that_are_always_zero():
    inputs = correlated()
    inputs[:, 10:60] = 0
    found = gptq(weights(), inputs.T @ inputs, Format(4, 64))
    assert np.isfinite(found.scales).all() and np.isfinite(found.dequantized()).all()
    assert np.isfinite(gptq(weights(), np.zeros((256, 256), np.float32), Format(4, 64)).scales).all()


@pytest.mark.parametrize("size", [16, 64, 100, 257])
def test_spread_is_the_cholesky_factor_of_the_inverse(size):
    inputs = correlated(columns=size)
    moment = inputs.T @ inputs
    diagonal = np.diagonal(moment).astype(np.float64) + 5
    exact = moment.astype(np.float64)
    exact[np.diag_indices(size)] = diagonal
    order = np.random.default_rng(0).permutation(size)
    expected = np.linalg.cholesky(np.linalg.inv(exact[np.ix_(order, order)])).T
    np.testing.assert_allclose(_spread(moment, diagonal, order), expected, rtol=1e-4, atol=1e-7)


def test_scales_listen_to_importance():
    """The block's largest weight is clipped where its input hardly matters, and kept where only it does."""
    block = np.full((1, 32), 0.3, np.float32)
    block[0, 0] = 1
    form, importance = Format(4, 32), np.ones(32, np.float32)
    importance[0] = 1e-6
    ignored = best_scales(block, form, importance)
    importance = 1e-6 * np.ones(32, np.float32)
    importance[0] = 1
    kept = best_scales(block, form, importance)
    assert abs(round(1 / kept[0]) * kept[0] - 1) < 0.01 and ignored[0] < kept[0]
