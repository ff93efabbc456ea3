"""Finite scalar quantisation: a fixed grid, rounding, codes in mixed radix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farsighted_jax.layers import finite_scalar, vector_quantizer

LEVELS = (2, 5, 8)


@pytest.fixture(scope="module")
def z_BZU():
    return np.random.default_rng(0).normal(size=(40, 3, len(LEVELS))).astype(np.float32) * 3


def test_the_grid_holds_every_point_once_within_one():
    grid_VU = np.asarray(finite_scalar.grid(LEVELS))
    assert grid_VU.shape == (finite_scalar.num_codes(LEVELS), 3) == (80, 3)
    assert len(np.unique(grid_VU, axis=0)) == 80
    assert np.abs(grid_VU).max() == 1
    for channel, number in enumerate(LEVELS):
        values = np.unique(grid_VU[:, channel])
        np.testing.assert_allclose(values, np.linspace(-1, 1, number), atol=1e-6)


def test_codes_name_their_points(z_BZU):
    grid_VU = finite_scalar.grid(LEVELS)
    code_V, quantized_VU = finite_scalar.nearest_code(grid_VU, LEVELS)
    np.testing.assert_array_equal(code_V, np.arange(80))
    np.testing.assert_array_equal(quantized_VU, grid_VU)
    code_BZ, quantized_BZU = finite_scalar.nearest_code(finite_scalar.bounded(z_BZU, LEVELS), LEVELS)
    assert code_BZ.dtype == jnp.int32 and code_BZ.shape == z_BZU.shape[:2]
    np.testing.assert_array_equal(quantized_BZU, grid_VU[code_BZ])


def test_rounding_finds_the_nearest_point(z_BZU):
    bounded_BZU = finite_scalar.bounded(z_BZU, LEVELS)
    code_BZ, _ = finite_scalar.nearest_code(bounded_BZU, LEVELS)
    np.testing.assert_array_equal(
        code_BZ, vector_quantizer.nearest_code(bounded_BZU, finite_scalar.grid(LEVELS))[0]
    )


def test_any_input_lands_on_the_grid_and_all_of_it_is_reached(z_BZU):
    extremes = np.array([-1e30, -50, 0, 50, 1e30], np.float32)[:, None] * np.ones(3, np.float32)
    code, quantized = finite_scalar.nearest_code(finite_scalar.bounded(extremes, LEVELS), LEVELS)
    assert np.abs(quantized).max() <= 1
    assert code[0] == 0 and code[-1] == 79
    np.testing.assert_array_equal(np.asarray(quantized)[[0, -1]], [[-1] * 3, [1] * 3])
    many = np.random.default_rng(1).normal(size=(4000, 3)).astype(np.float32)
    assert len(np.unique(finite_scalar.nearest_code(finite_scalar.bounded(many, LEVELS), LEVELS)[0])) == 80


def test_every_channel_has_a_gradient_and_the_point_has_none(z_BZU):
    def value(z):
        bounded = finite_scalar.bounded(z, LEVELS)
        return vector_quantizer.straight_through(
            bounded, finite_scalar.nearest_code(bounded, LEVELS)[1]
        ).sum()

    slope = jax.grad(lambda z: finite_scalar.bounded(z, LEVELS).sum())(z_BZU)
    np.testing.assert_allclose(jax.grad(value)(z_BZU), slope)
    assert (np.asarray(slope) > 0).mean() > 0.95
    assert not np.any(jax.grad(lambda z: finite_scalar.nearest_code(z, LEVELS)[1].sum())(z_BZU))


def test_another_number_of_channels_is_an_error(z_BZU):
    with pytest.raises(ValueError, match=r"3 channels, but levels \(8, 8\) for 2"):
        finite_scalar.bounded(z_BZU, (8, 8))
