import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_weights import random_variables

from farsighted_jax.encoders import t5
from farsighted_jax.encoders.errors import EncoderError

TINY = {
    "width": 12, "ff_width": 20, "depth": 3, "num_heads": 2, "head_width": 5,
    "vocabulary": 50, "num_buckets": 8, "max_distance": 9,
}  # fmt: skip
B, L = 3, 7


@functools.cache
def encoder(gated, dtype=jnp.float32):
    return t5.T5Encoder(**TINY, gated=gated, dtype=dtype)


@functools.cache
def apply(gated, dtype=jnp.float32):
    return jax.jit(encoder(gated, dtype).apply)


@functools.cache
def params(gated):
    return random_variables(encoder(gated), *texts())


def texts():
    token_BL = np.random.default_rng(0).integers(1, TINY["vocabulary"], (B, L)).astype(np.int32)
    return token_BL, np.arange(L) < np.array([[L], [4], [1]])


def exact_bucket(offset, num_buckets, max_distance):
    """The definition in whole numbers: no logarithm, so no rounding."""
    half, exact = num_buckets // 2, num_buckets // 4
    distance, bucket = abs(offset), half if offset > 0 else 0
    if distance < exact:
        return bucket + distance
    steps = half - exact
    # The largest step with log(distance / exact) / log(max_distance / exact) * steps >= step.
    reached = [
        step for step in range(steps) if distance**steps * exact**step >= max_distance**step * exact**steps
    ]
    return bucket + exact + reached[-1]


@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (8, 9), (16, 32), (32, 20), (64, 500)])
def test_buckets_are_those_of_the_definition(num_buckets, max_distance):
    offsets = np.arange(-2 * max_distance, 2 * max_distance + 1)
    want = [exact_bucket(int(offset), num_buckets, max_distance) for offset in offsets]
    np.testing.assert_array_equal(t5.relative_bucket(offsets, num_buckets, max_distance), want)


def test_buckets_grow_with_distance_and_keep_directions_apart():
    after = t5.relative_bucket(np.arange(1, 600))
    before = t5.relative_bucket(-np.arange(0, 600))
    for buckets, first, last in ((before, 0, 15), (after, 17, 31)):
        assert (np.diff(buckets) >= 0).all() and (np.diff(buckets) <= 1).all()
        assert (buckets[0], buckets[-1]) == (first, last)
    np.testing.assert_array_equal(after, before[1:] + 16)


@pytest.mark.parametrize(("num_buckets", "max_distance"), [(30, 128), (0, 128), (32, 8)])
def test_undefined_buckets_are_refused(num_buckets, max_distance):
    with pytest.raises(EncoderError, match=f"{num_buckets} and {max_distance}"):
        t5.relative_bucket(np.arange(3), num_buckets, max_distance)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("garbage", [0, 49, -7, 10**6])
def test_what_stands_under_padding_changes_no_bit(gated, garbage):
    token_BL, mask_BL = texts()
    clean = apply(gated)(params(gated), token_BL, mask_BL)
    dirty = apply(gated)(params(gated), np.where(mask_BL, token_BL, np.int32(garbage)), mask_BL)
    np.testing.assert_array_equal(clean, dirty)
    assert not np.any(np.asarray(clean)[~mask_BL])
    assert np.abs(np.asarray(clean)[mask_BL]).min(axis=-1).max() > 0


def test_the_amount_of_padding_changes_nothing():
    token_BL, mask_BL = texts()
    padded = apply(True)(params(True), token_BL, mask_BL)
    alone = apply(True)(params(True), token_BL[1:2, :4], np.ones((1, 4), bool))
    np.testing.assert_allclose(padded[1, :4], alone[0], atol=1e-5)


def test_a_text_of_padding_alone_gives_zeros():
    token_BL, mask_BL = texts()
    mask_BL = mask_BL & (np.arange(B) != 1)[:, None]
    out = apply(False)(params(False), token_BL, mask_BL)
    assert np.isfinite(out).all()
    assert not np.any(out[1])


def test_texts_of_a_batch_do_not_mix():
    token_BL, mask_BL = texts()
    out = apply(True)(params(True), token_BL, mask_BL)
    turned = apply(True)(params(True), token_BL[::-1], mask_BL[::-1])
    np.testing.assert_array_equal(out[::-1], turned)


def test_order_enters_through_the_shared_position_bias_alone():
    token_BL, _ = texts()
    everywhere = np.ones((B, L), bool)
    order = np.random.default_rng(1).permutation(L)
    without = jax.tree.map(jnp.copy, params(False))
    table = without["params"]["position_bias"]["embedding"]
    assert table.shape == (8, 2)
    without["params"]["position_bias"]["embedding"] = jnp.zeros_like(table)
    for weights, feels_order in ((params(False), True), (without, False)):
        out = apply(False)(weights, token_BL, everywhere)
        moved = apply(False)(weights, token_BL[:, order], everywhere)
        assert bool(np.abs(out[:, order] - moved).max() > 1e-3) is feels_order


def test_half_precision_stays_close_and_keeps_its_dtype():
    token_BL, mask_BL = texts()
    full = np.asarray(apply(True)(params(True), token_BL, mask_BL))
    halved = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params(True))
    half = apply(True, jnp.bfloat16)(halved, token_BL, mask_BL)
    assert half.dtype == jnp.bfloat16
    assert np.abs(np.asarray(half, np.float32) - full).max() < 0.05 * np.abs(full).max()


def test_layers_are_stacked_and_differently_initialised():
    variables = jax.jit(encoder(True).init)(jax.random.key(0), *texts())
    kernel = variables["params"]["blocks"]["mlp"]["gate"]["kernel"]
    assert kernel.shape == (3, 12, 20)
    assert np.abs(kernel[0] - kernel[1]).max() > 1e-3


def test_norms_divide_by_the_root_mean_square_without_removing_the_mean():
    token_BL, _ = texts()
    plain = {**params(False)["params"], "final_norm": {"scale": np.ones(12, np.float32)}}
    out = apply(False)({"params": plain}, token_BL, np.ones((B, L), bool))
    np.testing.assert_allclose(np.mean(np.square(out), axis=-1), 1, rtol=1e-3)
    assert np.abs(np.mean(out, axis=-1)).max() > 1e-2


@pytest.mark.parametrize(
    ("token", "mask", "named"),
    [
        (np.zeros((2, 3), np.float32), np.ones((2, 3), bool), r"float32\[2, 3\]"),
        (np.zeros(3, np.int32), np.ones(3, bool), r"int32\[3\]"),
        (np.zeros((2, 3), np.int32), np.ones((2, 3), np.int32), r"bool\[2, 3\].*int32\[2, 3\]"),
        (np.zeros((2, 3), np.int32), np.ones((2, 4), bool), r"bool\[2, 3\].*bool\[2, 4\]"),
    ],
)
def test_input_of_another_kind_is_refused(token, mask, named):
    with pytest.raises(EncoderError, match=named):
        encoder(False).apply(params(False), token, mask)


def test_an_unknown_variant_is_refused_with_the_nearest():
    with pytest.raises(EncoderError, match="'v1_1_xl'"):
        t5.t5_encoder("v1_1_x1")
