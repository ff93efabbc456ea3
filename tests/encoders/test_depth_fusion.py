"""Fusion of depth into tokens: nothing at first, blind to holes, sensor before estimate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farsighted_jax.encoders.geometry import DepthFusion, filled_depth

B, T, H, W, E, PATCH = 2, 3, 8, 12, 6, 4


@pytest.fixture(scope="module")
def clip():
    rng = np.random.default_rng(0)
    depth = rng.normal(size=(B, T, H, W, 1)).astype(np.float32)
    return rng.normal(size=(B, T, 6, E)).astype(np.float32), depth, rng.uniform(size=depth.shape) < 0.7


@pytest.fixture(scope="module")
def fusion(clip):
    layer = DepthFusion(PATCH)
    params = jax.jit(layer.init)(jax.random.key(0), *clip)["params"]
    return jax.jit(lambda params, *inputs: layer.apply({"params": params}, *inputs)), params


def opened(params):
    return params | {"gate": jnp.ones(E)}


def test_fusion_starts_as_the_identity_and_can_leave_it(fusion, clip):
    apply, params = fusion
    np.testing.assert_array_equal(apply(params, *clip), clip[0])
    assert not np.any(params["gate"])
    added = apply(opened(params), *clip) - clip[0]
    assert np.abs(added).max(axis=(0, 1, 2)).min() > 1e-2
    # What the gate adds is linear in it, so it can leave zero.
    np.testing.assert_allclose(
        apply(params | {"gate": jnp.full(E, 0.5)}, *clip), clip[0] + 0.5 * added, atol=1e-6
    )


def test_a_hole_differs_from_the_mean_and_hides_what_stands_in_it(fusion, clip):
    apply, params = fusion
    tokens, depth, valid = clip
    before = apply(opened(params), tokens, depth, valid)
    garbage = np.where(valid, depth, np.float32(np.nan))
    np.testing.assert_array_equal(before, apply(opened(params), tokens, garbage, valid))
    mean = np.where(valid, depth, np.float32(0))
    assert np.abs(before - apply(opened(params), tokens, mean, np.ones_like(valid))).max() > 1e-3


def test_sensor_depth_comes_before_an_estimate(clip):
    _, depth, valid = clip
    estimated = depth + 5
    filled, known = filled_depth(depth, valid, estimated)
    np.testing.assert_array_equal(filled, np.where(valid, depth, estimated))
    assert known.all()


def test_another_grid_than_that_of_the_tokens_is_refused(clip):
    tokens, depth, valid = clip
    with pytest.raises(ValueError, match=r"has 6 patches of 4 px a frame.*\[2, 3, 5, 6\]"):
        DepthFusion(PATCH).init(jax.random.key(0), tokens[:, :, :5], depth, valid)


def test_relative_depth_is_not_taken_for_metric_depth(fusion, clip):
    apply, params = fusion
    plain = apply(opened(params), *clip)
    told = apply(opened(params), *clip, None, np.array([True, False]))
    np.testing.assert_array_equal(plain[1], told[1])
    known_BTN = clip[2].reshape(B, T, 2, PATCH, 3, PATCH).any(axis=(3, 5)).reshape(B, T, 6)
    assert np.abs(plain - told)[0].max(axis=-1)[known_BTN[0]].min() > 1e-3
    nothing = np.zeros_like(clip[2])
    unknown = apply(opened(params), *clip[:2], nothing, None, np.array([True, False]))
    np.testing.assert_array_equal(unknown, apply(opened(params), *clip[:2], nothing))
