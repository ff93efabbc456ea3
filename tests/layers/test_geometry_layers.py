"""Patches, positions, transport: inverse pairs and known values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farsighted_jax.layers.patches import grid_size, patchify, unpatchify
from farsighted_jax.layers.positions import sinusoid, sinusoid_1d, sinusoid_2d
from farsighted_jax.layers.transport import splatted, translated


def test_unpatchify_inverts_patchify():
    image = np.random.default_rng(0).normal(size=(2, 3, 8, 12, 5))
    patches = patchify(image, 4)
    assert patches.shape == (2, 3, 6, 80)
    np.testing.assert_array_equal(unpatchify(patches, 2, 3, 4), image)


def test_patches_run_row_by_row():
    image = np.arange(4 * 6).reshape(1, 4, 6, 1)
    np.testing.assert_array_equal(patchify(image, 2)[0, 1], [2, 3, 8, 9])


def test_a_patch_that_does_not_divide_is_refused_with_the_numbers():
    with pytest.raises(ValueError, match="10x12.*patch size 4"):
        grid_size(10, 12, 4)


def test_sinusoid_alternates_sine_and_cosine():
    position = sinusoid_1d(5, 6)
    np.testing.assert_allclose(position[:, 0], np.sin(np.arange(5)), atol=1e-6)
    np.testing.assert_allclose(position[:, 1], np.cos(np.arange(5)), atol=1e-6)
    np.testing.assert_allclose(position[:, 2], np.sin(np.arange(5) * 10000 ** (-2 / 6)), atol=1e-6)
    np.testing.assert_array_equal(sinusoid(np.array([3.0]), 6)[0], position[3])


def test_grid_positions_share_rows_and_columns_and_differ_everywhere():
    position = np.asarray(sinusoid_2d(3, 4, 8)).reshape(3, 4, 8)
    np.testing.assert_array_equal(position[1, 0, :4], position[1, 3, :4])
    np.testing.assert_array_equal(position[0, 2, 4:], position[2, 2, 4:])
    assert len(np.unique(position.reshape(12, 8), axis=0)) == 12


@pytest.mark.parametrize(
    ("make", "width"), [(lambda w: sinusoid_1d(3, w), 5), (lambda w: sinusoid_2d(2, 2, w), 6)]
)
def test_a_width_that_does_not_split_is_refused(make, width):
    with pytest.raises(ValueError, match=str(width)):
        make(width)


def image(seed=0, *lead):
    return np.random.default_rng(seed).uniform(size=(*lead, 9, 3, 11)).astype(np.float32)


def test_translation_by_whole_pixels_is_a_shift_that_repeats_the_border():
    picture = image()
    moved = np.asarray(translated(picture, jnp.array([2.0, -1.0])))
    np.testing.assert_allclose(moved[:-1, :, 2:], picture[1:, :, :-2], atol=1e-6)
    np.testing.assert_allclose(moved[:-1, :, 0], picture[1:, :, 0], atol=1e-6)
    np.testing.assert_allclose(moved[-1, :, 2:], picture[-1, :, :-2], atol=1e-6)


def test_translation_by_half_a_pixel_averages_neighbours():
    picture = image()
    moved = np.asarray(translated(picture, jnp.array([0.5, 0.0])))
    np.testing.assert_allclose(moved[:, :, 1:], (picture[:, :, 1:] + picture[:, :, :-1]) / 2, atol=1e-6)


def test_translation_gradient_equals_finite_differences():
    picture, weight = image(), image(1)
    value = lambda shift: jnp.sum(weight * translated(picture, shift))  # noqa: E731
    shift, step = jnp.array([1.3, -2.4]), 1e-2
    gradient = jax.grad(value)(shift)
    for axis in range(2):
        change = jnp.zeros(2).at[axis].set(step)
        numeric = (value(shift + change) - value(shift - change)) / (2 * step)
        assert gradient[axis] == pytest.approx(float(numeric), rel=1e-2)


def test_splatting_with_no_motion_and_light_paint_returns_the_image():
    picture = image(0, 2)
    out = splatted(
        picture,
        np.zeros((2, 4, 9, 11)),
        np.zeros((2, 4, 2)),
        np.zeros_like(picture),
        np.full((2, 9, 11), -1e9),
    )
    # The paint keeps its least weight, exp(-6) of the layers'.
    np.testing.assert_allclose(out, picture, atol=3e-3)


def test_a_heavy_layer_covers_the_lighter_and_paint_fills_the_hole():
    picture = np.full((1, 9, 1, 11), 0.2, np.float32)
    picture[0, 4, 0, 2] = 1.0
    weights = np.full((1, 2, 9, 11), -20.0, np.float32)
    weights[0, 0] = 0.0
    weights[0, 0, 4, 2] = -20.0
    weights[0, 1, 4, 2] = 20.0
    paint = np.full((1, 9, 1, 11), 0.6, np.float32)
    shift = np.array([[[0.0, 0.0], [3.0, 0.0]]], np.float32)
    out = np.asarray(splatted(picture, weights, shift, paint, np.full((1, 9, 11), -3.0, np.float32)))[0, :, 0]
    assert out[4, 5] == pytest.approx(1.0, abs=0.02)
    assert out[4, 2] == pytest.approx(0.6, abs=0.05)
    assert out[0, 0] == pytest.approx(0.2, abs=0.03)
