import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from random_weights import random_variables

from farsighted_jax.encoders.vgg import Vgg16Features
from farsighted_jax.losses import perceptual

WIDTHS = (2, 3, 4, 5, 6)
B, T, H, W = 2, 3, 18, 20


def images(seed):
    return np.random.default_rng(seed).uniform(size=(B, T, H, W, 3)).astype(np.float32)


def features(params, rgb_BHWC):
    return Vgg16Features(WIDTHS).apply(params, rgb_BHWC)


@pytest.fixture(scope="module")
def frozen():
    params = random_variables(Vgg16Features(WIDTHS), images(0)[:, 0])
    linear = [np.random.default_rng(width).uniform(size=width).astype(np.float32) for width in WIDTHS]
    return params, linear


@jax.jit
def distance(predicted, target, params, linear):
    return perceptual.lpips(predicted, target, features, params, linear)


@jax.jit
def gradients(predicted, target, params, linear):
    total = lambda *arguments: distance(*arguments).sum()  # noqa: E731
    return jax.grad(total, argnums=(0, 2, 3))(predicted, target, params, linear)


def test_it_is_a_distance_of_each_frame(frozen):
    here, there = images(0), images(1)
    there[1, 2] = here[1, 2]
    out = distance(here, there, *frozen)
    assert out.shape == (B, T) and out.dtype == jnp.float32
    np.testing.assert_allclose(out, distance(there, here, *frozen), rtol=1e-5)
    assert out[1, 2] < 1e-12
    assert (np.asarray(out).ravel()[:-1] > 1e-3).all()


def test_frames_do_not_mix(frozen):
    here, there = images(0), images(1)
    replaced = there.copy()  # a running computation may still read the other
    replaced[0, 1] = images(2)[0, 1]
    changed = np.asarray(distance(here, there, *frozen) != distance(here, replaced, *frozen))
    assert changed.sum() == 1 and changed[0, 1]


def test_its_gradient_reaches_the_reconstruction_and_no_frozen_weight(frozen):
    to_predicted, *to_frozen = gradients(images(0), images(1), *frozen)
    assert np.isfinite(to_predicted).all()
    assert (np.abs(to_predicted).max(axis=(-3, -2, -1)) > 1e-6).all()
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(to_frozen))


def test_a_step_down_the_gradient_brings_the_images_closer(frozen):
    predicted, target = images(0), images(1)
    to_predicted = gradients(predicted, target, *frozen)[0]
    step = 0.05 * to_predicted / jnp.abs(to_predicted).max(axis=(-3, -2, -1), keepdims=True)
    assert (distance(predicted - step, target, *frozen) < distance(predicted, target, *frozen)).all()


def test_a_position_without_features_gets_no_gradient():
    feature = np.zeros((1, 2, 2, 3), np.float32)
    feature[0, 0, 1] = [1, 2, 3]
    gradient = jax.grad(lambda x: (perceptual.unit_length(x) * np.arange(3)).sum())(feature)
    assert np.isfinite(gradient).all()
    assert np.any(gradient[0, 0, 1]) and not np.any(gradient[0, 1])


def test_dead_networks_see_no_distance(frozen):
    params, linear = frozen
    dead = jax.tree.map(np.zeros_like, params)
    assert not np.any(distance(images(0), images(1), dead, linear))
    assert not np.any(gradients(images(0), images(1), dead, linear)[0])


def test_the_input_scaling_is_that_of_imagenet():
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(perceptual.lpips_input(images(0)), (images(0) - mean) / deviation, atol=1e-5)


def test_length_is_one_or_zero():
    feature = np.zeros((1, 2, 2, 3), np.float32)
    feature[0, 0] = [[3, 0, 4], [1e-3, 0, 0]]
    length = np.linalg.norm(perceptual.unit_length(feature), axis=-1)
    np.testing.assert_allclose(length, [[[1, 1], [0, 0]]], rtol=1e-5)


def test_half_precision_features_enter_a_float32_distance(frozen):
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), frozen)
    module = Vgg16Features(WIDTHS, dtype=jnp.bfloat16)
    out = jax.jit(lambda *a: perceptual.lpips(*a[:2], module.apply, *a[2:]))(images(0), images(1), *half)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, distance(images(0), images(1), *frozen), rtol=0.1)


def test_linear_weights_that_do_not_fit_are_refused(frozen):
    params, linear = frozen
    with pytest.raises(ValueError, match=r"channels \[2, 3, 4, 5, 6\].*\(7,\)"):
        perceptual.lpips(images(0), images(1), features, params, [*linear[:4], np.ones(7, np.float32)])


WIDE = (16, 16, 32, 32, 32)


@pytest.fixture(scope="module")
def wide():
    """Network and linear weights of widths at which rounding averages out, as it does in the real network."""
    params = random_variables(Vgg16Features(WIDE), images(0)[:, 0], scale=1.0)
    # Activations of every layer are about as large as its inputs.
    params = jax.tree.map(lambda leaf: leaf * (2 / max(leaf[..., 0].size, 50)) ** 0.5, params)
    return params, [np.random.default_rng(width).uniform(size=width).astype(np.float32) for width in WIDE]


def graded(dtype):
    """Distances, and the gradient of their sum by the predicted images, with the network in `dtype`."""
    network = Vgg16Features(WIDE, dtype, dtype)

    def total(predicted, target, params, linear):
        out = perceptual.lpips(predicted, target, network.apply, params, linear)
        return out.sum(), out

    return jax.value_and_grad(total, has_aux=True)


def low(params):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)


def test_in_bfloat16_distances_are_within_2_percent_and_gradients_point_the_same_way(wide):
    """Rectifiers near zero switch, so single elements of the gradient differ more than its length does."""
    params, linear = wide
    (_, wanted), gradient = jax.jit(graded(jnp.float32))(images(0), images(1), params, linear)
    (_, found), low_gradient = jax.jit(graded(jnp.bfloat16))(images(0), images(1), low(params), linear)
    assert found.dtype == low_gradient.dtype == jnp.float32
    np.testing.assert_allclose(found, wanted, rtol=0.02)
    norms = np.linalg.norm(low_gradient), np.linalg.norm(gradient)
    assert norms[0] == pytest.approx(norms[1], rel=0.05)
    assert 0.97 < np.vdot(low_gradient, gradient) / np.prod(norms) < 1 - 1e-6


def test_in_bfloat16_nothing_but_the_network_is(wide):
    """Both ways its convolutions take bfloat16; what adds features up takes float32, and is no product."""
    params, linear = wide
    jaxpr = jax.make_jaxpr(graded(jnp.bfloat16))(images(0), images(1), low(params), linear).jaxpr
    found = kinds(jaxpr)
    assert found["conv_general_dilated"] == {"bfloat16"} and found["reduce_sum"] == {"float32"}
    assert found["sqrt"] == {"float32"} and "dot_general" not in found


def kinds(jaxpr):
    """Name of a primitive -> dtypes of its inputs."""
    found = collections.defaultdict(set)
    for equation in jaxpr.eqns:
        found[equation.primitive.name] |= {str(value.aval.dtype) for value in equation.invars}
        for inner in jaxprs_in_params(equation.params):
            for name, dtypes in kinds(inner).items():
                found[name] |= dtypes
    return found
