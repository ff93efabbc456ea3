"""Keypoints follow what they look for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farsighted_jax.layers.keypoints import SpatialSoftmax, patch_centers

ROWS, COLUMNS, WIDTH, POINTS = 3, 5, 6, 4


@pytest.fixture(scope="module")
def points():
    """Point 0 looks for channel 0 alone; channel 1 says how far right of the middle it lies."""
    module = SpatialSoftmax(POINTS)
    tokens = jnp.ones((1, 1, ROWS * COLUMNS, WIDTH))
    params = module.init(jax.random.key(0), tokens, (ROWS, COLUMNS))["params"]
    kernel = np.zeros((WIDTH, POINTS), np.float32)
    kernel[0, 0] = 10.0
    params["feature"]["kernel"] = jnp.asarray(kernel)
    offset = np.zeros((WIDTH, POINTS, 2), np.float32)
    offset[1, 0, 0] = 10.0
    params["offset"]["kernel"] = jnp.asarray(offset.reshape(WIDTH, -1))
    return module, params


def test_centres_are_symmetric_and_x_comes_first():
    centers = np.asarray(patch_centers(ROWS, COLUMNS))
    np.testing.assert_allclose(centers.mean(axis=0), 0, atol=1e-7)
    np.testing.assert_allclose(centers[0], [-0.8, -2 / 3], rtol=1e-6)
    np.testing.assert_allclose(centers[1] - centers[0], [0.4, 0], atol=1e-6)


def test_a_point_lies_where_its_feature_is_and_the_others_in_the_middle(points):
    module, params = points
    tokens = np.zeros((2, 3, ROWS * COLUMNS, WIDTH), np.float32)
    places = np.array([[0, 7, 14], [3, 3, 9]])
    for sample in range(2):
        for frame in range(3):
            tokens[sample, frame, places[sample, frame], 0] = 1.0
    found = np.asarray(module.apply({"params": params}, tokens, (ROWS, COLUMNS)))
    assert found.shape == (2, 3, POINTS, 2)
    # The norm makes channel 1 negative where channel 0 stands out: left edge of the patch.
    expected = np.asarray(patch_centers(ROWS, COLUMNS))[places] - [1 / COLUMNS, 0]
    np.testing.assert_allclose(found[:, :, 0], expected, atol=1e-3)
    np.testing.assert_allclose(found[:, :, 1:], 0, atol=1e-6)


def test_a_point_lies_in_the_middle_of_its_patch_at_the_start():
    module, tokens = SpatialSoftmax(POINTS), np.random.default_rng(1).normal(size=(1, 1, 1, WIDTH))
    params = module.init(jax.random.key(0), tokens, (1, 1))
    found = np.asarray(module.apply(params, tokens, (1, 1)))
    assert 0 < np.abs(found).max() < 0.1


def test_points_stay_within_the_frame(points):
    module, params = points
    tokens = np.random.default_rng(0).normal(size=(1, 2, ROWS * COLUMNS, WIDTH)).astype(np.float32) * 100
    found = np.asarray(module.apply({"params": params}, tokens, (ROWS, COLUMNS)))
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 1.0
