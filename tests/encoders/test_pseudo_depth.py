"""Alignment of inverse depth: exact where it can be, unmoved by outliers, defined where nothing is known."""

import jax
import numpy as np
import pytest

from farsighted_jax.encoders.pseudo_depth import LIMIT, aligned_depth, relative_depth

B, H, W = 3, 9, 11
SCALE_B, SHIFT_B = np.array([0.5, 2.0, 7.0]), np.array([0.1, -0.2, 0.0])
align = jax.jit(aligned_depth, static_argnums=3)
relative = jax.jit(relative_depth)


@pytest.fixture(scope="module")
def images():
    """(p, metres) with s * p + b = 1 / metres."""
    p = np.random.default_rng(0).uniform(0.3, 3.0, (B, H, W, 1))
    inverse_m = SCALE_B[:, None, None, None] * p + SHIFT_B[:, None, None, None]
    return p.astype(np.float32), (1 / inverse_m).astype(np.float32)


def some_valid(share, seed=1):
    return np.random.default_rng(seed).uniform(size=(B, H, W, 1)) < share


@pytest.mark.parametrize("share", [1.0, 0.1])
def test_scale_and_shift_are_recovered(images, share):
    p, depth = images
    aligned = align(p, depth, some_valid(share), 100.0)
    np.testing.assert_allclose(aligned.scale_B, SCALE_B, rtol=1e-4)
    np.testing.assert_allclose(aligned.shift_B, SHIFT_B, atol=1e-4)
    np.testing.assert_allclose(aligned.depth_BHW1, depth, rtol=1e-3)
    assert aligned.fitted_B.all()


def test_a_fifth_of_wrong_measurements_does_not_bend_the_fit(images):
    p, depth = images
    rng = np.random.default_rng(2)
    noisy = depth * np.exp(rng.normal(0, 0.01, depth.shape)).astype(np.float32)
    wrong = rng.uniform(size=depth.shape) < 0.2
    # All of them too near: the kind of error that does not cancel out.
    noisy = np.where(wrong, depth * rng.uniform(0.2, 0.5, depth.shape), noisy).astype(np.float32)
    aligned = align(p, noisy, np.ones_like(wrong), 100.0)
    np.testing.assert_allclose(aligned.scale_B, SCALE_B, rtol=0.03)
    assert np.median(np.abs(aligned.depth_BHW1 / depth - 1), axis=(1, 2, 3)).max() < 0.02


def test_pixels_that_are_not_valid_have_no_influence(images):
    p, depth = images
    valid = some_valid(0.5)
    garbage = np.where(valid, depth, np.float32(np.nan))
    garbage[0][~valid[0]] = 0
    for first, second in zip(align(p, depth, valid, 10.0), align(p, garbage, valid, 10.0), strict=True):
        np.testing.assert_array_equal(first, second)


def test_far_and_negative_inverse_depth_is_clipped(images):
    p, depth = images
    far = p.copy()
    far[:, 0, 0] = -100.0
    valid = np.ones(p.shape, bool)
    valid[:, 0, 0] = False
    aligned = align(far, depth, valid, 2.5)
    np.testing.assert_array_equal(aligned.depth_BHW1[:, 0, 0], 2.5)
    assert 0 < aligned.depth_BHW1.min() and aligned.depth_BHW1.max() == 2.5


def test_without_enough_to_fit_the_result_is_the_documented_one(images):
    p, depth = images
    valid = np.zeros(p.shape, bool)
    valid[1, 2, 3] = True
    p = np.where(np.arange(B)[:, None, None, None] == 2, np.float32(0.7), p)
    valid[2] = True
    aligned = align(p, depth, valid, 50.0)
    np.testing.assert_array_equal(aligned.fitted_B, [False, False, False])
    np.testing.assert_array_equal(aligned.scale_B, 0)
    np.testing.assert_array_equal(aligned.depth_BHW1[0], 50.0)
    np.testing.assert_allclose(aligned.depth_BHW1[1], depth[1, 2, 3, 0], rtol=1e-5)
    assert np.isfinite(aligned.depth_BHW1).all()


def test_a_clip_keeps_its_axes(images):
    p, depth = images
    one, clip = align(p, depth, some_valid(0.7), 9.0), align(p[None], depth[None], some_valid(0.7)[None], 9.0)
    assert clip.depth_BHW1.shape == (1, B, H, W, 1) and clip.scale_B.shape == (1, B)
    np.testing.assert_array_equal(one.depth_BHW1, clip.depth_BHW1[0])
    with pytest.raises(ValueError, match="max_depth_m is 0"):
        aligned_depth(p, depth, some_valid(1), 0)


def test_relative_depth_does_not_know_scale_and_shift_and_keeps_motion(images):
    p = images[0][None]
    depth, known = relative(p)
    assert known.all() and depth.shape == p.shape
    np.testing.assert_allclose(np.median(depth[:, 0]), 0, atol=1e-6)
    np.testing.assert_allclose(np.abs(depth[:, 0]).mean(), 1, rtol=1e-5)
    np.testing.assert_allclose(depth, relative(7 * p - 2)[0], atol=1e-4)
    nearer = p.copy()
    nearer[:, 1] += 0.5
    moved, _ = relative(nearer)
    np.testing.assert_array_equal(moved[:, [0, 2]], depth[:, [0, 2]])
    assert (moved[:, 1] < depth[:, 1]).all(), "nearer is smaller"


def test_relative_depth_is_bounded_and_unknown_where_frame_0_is_flat(images):
    p = np.stack([images[0], images[0]])
    p[0, 0] = 0.7
    p[1, 2] = 1e6
    depth, known = relative(p)
    assert not known[0].any() and not depth[0].any()
    assert known[1].all() and np.unique(depth[1, 2]) == [-LIMIT] and np.abs(depth[1, :2]).max() < LIMIT
