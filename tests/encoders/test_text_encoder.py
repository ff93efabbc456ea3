import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_weights import random_variables

from farsighted_jax.encoders import text
from farsighted_jax.encoders.errors import EncoderError
from farsighted_jax.encoders.t5 import T5Encoder

SIZES = {"width": 12, "depth": 3, "num_heads": 2, "vocabulary": 50}
B, L = 3, 7
LENGTHS = np.array([L, 4, 1])
ENCODER = text.TextEncoder(**SIZES)


def texts():
    token_BL = np.random.default_rng(0).integers(1, SIZES["vocabulary"], (B, L)).astype(np.int32)
    return token_BL, np.arange(L) < LENGTHS[:, None]


@functools.cache
def params():
    return random_variables(ENCODER, *texts())


@functools.cache
def apply():
    return jax.jit(ENCODER.apply)


def test_padding_is_zero_and_what_stands_there_changes_no_bit():
    token_BL, mask_BL = texts()
    out_BLE = apply()(params(), token_BL, mask_BL)
    assert out_BLE.shape == (B, L, SIZES["width"]) and out_BLE.dtype == jnp.float32
    assert not np.asarray(out_BLE)[~mask_BL].any()
    for garbage in (0, 17, -5, 10**6):
        other_BL = np.where(mask_BL, token_BL, garbage).astype(np.int32)
        np.testing.assert_array_equal(apply()(params(), other_BL, mask_BL), out_BLE)


def test_more_padding_changes_nothing():
    token_BL, mask_BL = texts()
    out_BLE = apply()(params(), token_BL, mask_BL)
    alone = apply()(params(), token_BL[1:2, :4], mask_BL[1:2, :4])
    np.testing.assert_allclose(alone[0], out_BLE[1, :4], atol=1e-5)


def test_every_real_token_sees_every_real_token_and_its_place():
    token_BL, mask_BL = texts()
    out_BLE = apply()(params(), token_BL, mask_BL)
    for place in (0, 3):
        other_BL = token_BL.copy()
        other_BL[1, place] = token_BL[1, place] % 40 + 1
        changed_BL = (np.asarray(apply()(params(), other_BL, mask_BL)) != out_BLE).any(axis=-1)
        np.testing.assert_array_equal(changed_BL, mask_BL & (np.arange(B) == 1)[:, None])
    turned_BL = token_BL.copy()
    turned_BL[1, :4] = token_BL[1, :4][::-1]
    turned = np.asarray(apply()(params(), turned_BL, mask_BL))[1, :4][::-1]
    assert np.abs(turned - np.asarray(out_BLE)[1, :4]).max() > 0.1


def test_a_text_without_tokens_is_zero_with_finite_gradients():
    token_BL, _ = texts()
    mask_BL = np.zeros((B, L), bool)

    def loss(variables):
        return jnp.sum(ENCODER.apply(variables, token_BL, mask_BL) ** 2)

    value, gradient = jax.jit(jax.value_and_grad(loss))(params())
    assert value == 0 and not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradient))


def test_every_parameter_learns_and_rows_of_absent_tokens_do_not():
    token_BL, mask_BL = texts()
    weight_BLE = np.random.default_rng(1).normal(size=(B, L, SIZES["width"])).astype(np.float32)

    def loss(variables):
        return jnp.sum(weight_BLE * ENCODER.apply(variables, token_BL, mask_BL))

    gradient = jax.jit(jax.grad(loss))(params())["params"]
    assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradient))
    learned = np.flatnonzero(np.asarray(gradient["embedding"]["embedding"]).any(axis=1))
    np.testing.assert_array_equal(learned, np.unique(token_BL[mask_BL]))


def test_it_is_called_as_t5_is():
    """The policy takes either: same arguments, same axes, same errors."""
    t5 = T5Encoder(width=12, ff_width=20, depth=1, num_heads=2, head_width=5, gated=False, vocabulary=50)
    shapes = [
        jax.eval_shape(module.init_with_output, jax.random.key(0), *texts())[0] for module in (t5, ENCODER)
    ]
    assert shapes[0] == shapes[1]
    token_BL, mask_BL = texts()
    for wrong in ((token_BL[0], mask_BL), (token_BL.astype(np.float32), mask_BL), (token_BL, mask_BL[:, :3]),
                  (token_BL, mask_BL.astype(np.int32))):  # fmt: skip
        messages = []
        for module in (t5, ENCODER):
            with pytest.raises(EncoderError) as error:
                jax.eval_shape(module.init, jax.random.key(0), *wrong)
            messages.append(str(error.value))
        assert messages[0] == messages[1]


@pytest.mark.parametrize("variant", list(text.VARIANTS))
def test_every_variant_traces_at_full_size_in_bfloat16(variant):
    module = text.text_encoder(variant, dtype=jnp.bfloat16)
    out, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), *texts())
    assert out.shape == (B, L, module.width) and out.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert variables["params"]["embedding"]["embedding"].shape == (259, module.width)


def test_an_unknown_variant_names_the_nearest():
    with pytest.raises(EncoderError, match="small"):
        text.text_encoder("smal")
