"""DINOv2 without a reference: properties, and errors that name what is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farsighted_jax.core import tree
from farsighted_jax.encoders.depth_anything import DepthAnything, depth_anything
from farsighted_jax.encoders.dinov2 import DinoV2, dinov2
from farsighted_jax.encoders.errors import EncoderError
from farsighted_jax.encoders.image_input import normalized_rgb, resized_rgb

SIZES = {"width": 8, "depth": 5, "num_heads": 2, "patch": 2, "grid": 3, "num_registers": 3}


@pytest.fixture(scope="module")
def rgb():
    return np.random.default_rng(0).integers(0, 256, (3, 4, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def params(rgb):
    abstract = jax.eval_shape(DinoV2(**SIZES).init, jax.random.key(0), rgb)["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: rng.normal(scale=0.4, size=leaf.shape).astype(np.float32), abstract)


@pytest.fixture(scope="module")
def encode(params):
    def run(rgb, layers=(), **changes):
        module = DinoV2(**{**SIZES, **changes})
        return jax.jit(lambda params, rgb: module.apply({"params": params}, rgb, layers))(params, rgb)

    return run


@pytest.fixture(scope="module")
def all_layers(encode, rgb):
    return encode(rgb, (1, 2, 3, 4, 5))


@pytest.mark.parametrize("layers", [(), (2,), (1, 4), (5,)])
def test_any_choice_of_layers_gives_the_same_tokens(encode, all_layers, rgb, layers):
    patches, out = encode(rgb, layers)
    assert len(out["layers"]) == len(layers)
    for layer, found in zip(layers, out["layers"], strict=True):
        np.testing.assert_allclose(found, all_layers[1]["layers"][layer - 1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(patches, all_layers[0], rtol=1e-5, atol=1e-5)


def test_layers_differ_and_the_last_is_the_result(all_layers):
    patches, out = all_layers
    assert patches.shape == (3, 8, 8) and out["class"].shape == (3, 8) and out["registers"].shape == (3, 3, 8)
    whole = np.concatenate([out["class"][:, None], out["registers"], patches], axis=1)
    np.testing.assert_array_equal(out["layers"][-1], whole)
    for a, b in zip(out["layers"], out["layers"][1:], strict=False):
        assert np.abs(a - b).max() > 0.1


def test_unrolling_changes_nothing(encode, all_layers, rgb):
    np.testing.assert_allclose(encode(rgb, unroll=5)[0], all_layers[0], rtol=1e-5, atol=1e-5)


def test_bytes_and_floats_are_the_same_image_and_rows_are_independent(encode, all_layers, rgb):
    reversed_floats = rgb[::-1].astype(np.float32) / 255
    np.testing.assert_allclose(encode(reversed_floats)[0][::-1], all_layers[0], rtol=1e-4, atol=1e-4)


def test_parameters_do_not_depend_on_the_image_and_compute_dtype(params):
    other = DinoV2(**SIZES, dtype=jnp.bfloat16)
    abstract = jax.eval_shape(other.init, jax.random.key(0), jnp.zeros((1, 2, 6, 3)))["params"]
    assert tree.structure_difference(params, abstract) == []


@pytest.mark.parametrize(
    ("shape", "dtype", "words"),
    [
        ((1, 5, 4, 3), np.uint8, "image 5x4.*5 px is no multiple of the patch, 2 px; the nearest is 4 px"),
        ((1, 4, 0, 3), np.uint8, "0 px.*the nearest is 2 px"),
        ((4, 4, 3), np.uint8, r"\[B, H, W, 3\], found shape \[4, 4, 3\]"),
        ((1, 4, 4, 1), np.uint8, r"found uint8\[1, 4, 4, 1\]"),
        ((1, 4, 4, 3), np.int32, r"found int32\[1, 4, 4, 3\]"),
    ],
)
def test_an_unusable_image_is_refused_with_the_numbers(shape, dtype, words):
    with pytest.raises(EncoderError, match=words):
        jax.eval_shape(DinoV2(**SIZES).init, jax.random.key(0), jnp.zeros(shape, dtype))


@pytest.mark.parametrize("layers", [(0,), (6,), (2, 1), (2, 2)])
def test_layers_that_do_not_exist_are_refused(params, rgb, layers):
    with pytest.raises(EncoderError, match=r"expected ascending numbers in 1\.\.5"):
        jax.eval_shape(lambda: DinoV2(**SIZES).apply({"params": params}, rgb, layers))


def test_an_unknown_variant_names_the_nearest():
    with pytest.raises(EncoderError, match="did you mean 'vitb14_reg'"):
        dinov2("vitb14_regs")
    with pytest.raises(EncoderError, match="did you mean 'vits14'"):
        depth_anything("vits")


@pytest.mark.parametrize("max_depth_m", [None, 20.0])
def test_depth_has_the_size_of_the_image_and_is_float32(max_depth_m):
    module = DepthAnything(
        DinoV2(**SIZES, dtype=jnp.bfloat16), (1, 2, 3, 5), (3, 4, 5, 6), 4, 7, max_depth_m=max_depth_m
    )
    image = jax.ShapeDtypeStruct((2, 6, 10, 3), np.float32)
    (depth, out), _ = jax.eval_shape(module.init_with_output, jax.random.key(0), image)
    assert (depth.shape, depth.dtype) == ((2, 6, 10, 1), jnp.float32)
    assert [level.shape[1:3] for level in out["levels"]] == [(12, 20), (6, 10), (3, 5), (2, 3)]


def test_a_head_needs_four_levels():
    module = DepthAnything(DinoV2(**SIZES), (1, 2, 3), (3, 4, 5), 4)
    with pytest.raises(EncoderError, match="expected four of each"):
        jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 2, 2, 3)))


def test_resized_colours_stay_colours_and_can_be_differentiated():
    image = np.zeros((1, 4, 6, 3), np.float32)
    image[:, :, 3:] = 1
    found = np.asarray(resized_rgb(image, 8, 13))
    assert found.shape == (1, 8, 13, 3) and found.min() >= 0 and found.max() <= 1
    gradient = jax.jit(jax.grad(lambda image: jnp.sum(normalized_rgb(resized_rgb(image, 2, 3)) ** 2)))
    gradient = gradient(image * 0.5 + 0.3)
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
