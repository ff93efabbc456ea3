"""The temporal pyramid: its sums, causality, and that it starts as nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farsighted_jax.layers.space_time import SpaceTimeTransformer
from farsighted_jax.layers.temporal_pyramid import TAPS, TemporalPyramid

B, T, S, D = 2, 6, 3, 4
DILATIONS = (1, 3)


@pytest.fixture(scope="module")
def x_BTSD():
    return np.random.default_rng(0).normal(size=(B, T, S, D)).astype(np.float32)


@pytest.fixture(scope="module")
def pyramid(x_BTSD):
    """The layer and parameters whose projection is not zero any more."""
    layer = TemporalPyramid(DILATIONS)
    params = layer.init(jax.random.key(0), x_BTSD)["params"]
    params["project"]["kernel"] = jax.random.normal(jax.random.key(1), (D, D))
    return layer, params


def test_it_equals_a_loop(pyramid, x_BTSD):
    layer, params = pyramid
    taps_G3D = np.asarray(params["taps"])
    total = np.zeros_like(x_BTSD)
    for k in range(T):
        for branch, dilation in enumerate(DILATIONS):
            for tap in range(TAPS):
                if k - tap * dilation >= 0:
                    total[:, k] += taps_G3D[branch, tap] * x_BTSD[:, k - tap * dilation]
    want = total @ np.asarray(params["project"]["kernel"])
    np.testing.assert_allclose(layer.apply({"params": params}, x_BTSD), want, atol=1e-5)


def test_a_frame_sees_the_past_at_its_dilations_alone(pyramid, x_BTSD):
    layer, params = pyramid

    def per_frame(x):
        return layer.apply({"params": params}, x).sum(axis=(0, 2, 3))

    reach_TT = np.abs(np.asarray(jax.jacrev(per_frame)(x_BTSD))).sum(axis=(1, 3, 4))
    gaps = {tap * dilation for dilation in DILATIONS for tap in range(TAPS)}
    for k in range(T):
        seen = {int(source) for source in np.flatnonzero(reach_TT[k])}
        assert seen == {k - gap for gap in gaps if k >= gap}


def test_a_fresh_pyramid_adds_nothing(x_BTSD):
    layer = TemporalPyramid(DILATIONS)
    assert not np.any(layer.init_with_output(jax.random.key(0), x_BTSD)[0])


@pytest.mark.parametrize(
    ("dilations", "message"),
    [((1, 6), "dilation 6 .*6 frames.*1..5"), ((0,), "dilation 0"), ((2, 2), "dilation 2 .*repeated")],
)
def test_a_useless_dilation_is_named(x_BTSD, dilations, message):
    with pytest.raises(ValueError, match=message):
        TemporalPyramid(dilations).init(jax.random.key(0), x_BTSD)


@pytest.fixture(scope="module")
def stacks(x_BTSD):
    """Five blocks with a pyramid in every second, and without, with the same blocks."""
    grouped = SpaceTimeTransformer(5, 2, pyramid=DILATIONS, pyramid_every=2)
    params = jax.jit(grouped.init)(jax.random.key(0), x_BTSD)["params"]
    blocks = jax.tree.map(
        lambda first, last: jnp.concatenate([first.reshape(-1, *first.shape[2:]), last]),
        params["groups"]["blocks"],
        params["blocks"],
    )
    return jax.jit(grouped.apply), params, SpaceTimeTransformer(5, 2), {"blocks": blocks}


def test_every_second_block_has_a_pyramid_and_starts_without_effect(stacks, x_BTSD):
    apply, params, plain, plain_params = stacks
    assert params["groups"]["pyramid"]["taps"].shape == (2, len(DILATIONS), TAPS, D)
    assert params["groups"]["blocks"]["space_norm"]["scale"].shape == (2, 2, D)
    assert params["blocks"]["space_norm"]["scale"].shape == (1, D)
    want = jax.jit(plain.apply)({"params": plain_params}, x_BTSD)
    np.testing.assert_allclose(apply({"params": params}, x_BTSD), want, atol=1e-5)


def test_a_stack_reads_its_pyramids_and_no_later_frame(stacks, x_BTSD):
    apply, params, _, _ = stacks
    shaken = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(2), leaf.shape), params)
    before = apply({"params": shaken}, x_BTSD)
    later = x_BTSD.copy()
    later[:, 4:] += 1
    after = apply({"params": shaken}, later)
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert np.abs(before - after)[:, 4:].max() > 0.1
    shaken["groups"]["pyramid"]["taps"] *= 2
    assert np.abs(before - apply({"params": shaken}, x_BTSD)).max() > 1e-3
