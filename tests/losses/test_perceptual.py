import jax
import jax.numpy as jnp
import numpy as np
import pytest
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
