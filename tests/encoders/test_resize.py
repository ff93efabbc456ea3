"""Resampling matrices: known values and properties that hold for every size."""

import numpy as np
import pytest

from farsighted_jax.encoders.errors import EncoderError
from farsighted_jax.encoders.resize import KERNELS, resize_matrix, resized


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("options", [{}, {"antialias": True}, {"align_corners": True}])
@pytest.mark.parametrize(("source", "target"), [(7, 3), (3, 7), (1, 4), (5, 1)])
def test_a_constant_stays_constant(kernel, options, source, target):
    matrix = resize_matrix(source, target, kernel, **options)
    assert matrix.shape == (target, source)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("antialias", [False, True])
def test_equal_size_is_the_identity(kernel, antialias):
    np.testing.assert_allclose(resize_matrix(6, 6, kernel, antialias=antialias), np.eye(6), atol=1e-6)


def test_linear_weights_by_hand():
    halved = resize_matrix(4, 2, "linear")
    np.testing.assert_allclose(halved, [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    corners = resize_matrix(2, 3, "linear", align_corners=True)
    np.testing.assert_allclose(corners, [[1, 0], [0.5, 0.5], [0, 1]])
    doubled = resize_matrix(2, 4, "linear")
    np.testing.assert_allclose(doubled, [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])


def test_sharp_cubic_weights_by_hand():
    middle = resize_matrix(8, 4, "cubic_sharp")[1]
    np.testing.assert_allclose(middle, [0, -0.09375, 0.59375, 0.59375, -0.09375, 0, 0, 0])


def test_antialiasing_widens_the_kernel_where_the_axis_shrinks_alone():
    assert np.count_nonzero(resize_matrix(32, 4, "linear", antialias=True)[1]) == 16
    np.testing.assert_allclose(
        resize_matrix(8, 16, "linear", antialias=True), resize_matrix(8, 16, "linear"), atol=1e-6
    )


def test_rows_and_columns_are_not_mixed_up():
    image = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)
    found = np.asarray(resized(image, 6, 5, "linear", align_corners=True))
    assert found.shape == (2, 6, 5, 4)
    np.testing.assert_allclose(found[:, 0], image[:, 0], atol=1e-6)
    np.testing.assert_allclose(found[:, -1], image[:, -1], atol=1e-6)


@pytest.mark.parametrize(
    ("source", "target", "kernel"), [(4, 0, "linear"), (0, 4, "cubic"), (4, 4, "lanczos")]
)
def test_what_cannot_be_resampled_is_named(source, target, kernel):
    with pytest.raises(EncoderError, match=f"{source} to {target}.*{kernel}"):
        resize_matrix(source, target, kernel)
