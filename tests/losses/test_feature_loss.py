import jax
import numpy as np

from farsighted_jax.losses.feature import layer_normalized, token_error


def tokens(seed):
    return np.random.default_rng(seed).normal(3, 2, size=(2, 3, 4, 5)).astype(np.float32)


def test_it_is_the_error_against_tokens_of_mean_0_and_deviation_1():
    predicted, target = tokens(0), tokens(1)
    normal = (target - target.mean(-1, keepdims=True)) / target.std(-1, keepdims=True)
    want = ((predicted - normal) ** 2).mean((-2, -1))
    np.testing.assert_allclose(token_error(predicted, target), want, rtol=1e-4)


def test_the_scale_and_shift_of_a_frozen_token_do_not_count():
    predicted, target = tokens(0), tokens(1)
    scaled = target * np.array([1, 5, 0.5, 2], np.float32)[:, None] + 7
    np.testing.assert_allclose(token_error(predicted, scaled), token_error(predicted, target), rtol=1e-3)


def test_perfect_tokens_cost_nothing_and_zeros_cost_one():
    target = tokens(1)
    np.testing.assert_allclose(token_error(layer_normalized(target), target), 0, atol=1e-12)
    np.testing.assert_allclose(token_error(np.zeros_like(target), target), 1, rtol=1e-4)


def test_a_constant_token_is_no_fault_and_only_the_prediction_gets_a_gradient():
    target = tokens(1)
    target[0, 0, 0] = 4.0
    to_predicted, to_target = jax.grad(lambda p, q: token_error(p, q).sum(), argnums=(0, 1))(
        tokens(0), target
    )
    assert np.isfinite(to_predicted).all() and np.any(to_predicted)
    assert not np.any(to_target)
