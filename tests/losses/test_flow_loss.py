"""Losses of action chunks against loops, and what masks keep out of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farsighted_jax.losses.flow import gripper_cross_entropy, kept_sum, velocity_error

B, J, M = 2, 3, 4


def normal(seed):
    return np.random.default_rng(seed).normal(size=(B, J, M)).astype(np.float32)


def some_valid():
    valid = np.random.default_rng(7).random((B, J, M)) < 0.6
    assert valid.any(axis=(1, 2)).all() and not valid.all()
    return valid


@pytest.mark.parametrize("keep", ["", "B", "J", "M", "JM", "BJM"])
def test_sums_and_counts_equal_a_loop(keep):
    velocity, target, valid = normal(0), normal(1), some_valid()
    total, count = velocity_error(velocity, target, valid, keep)
    want_total, want_count = np.zeros_like(total), np.zeros_like(count)
    for b, j, m in np.argwhere(valid):
        place = tuple({"B": b, "J": j, "M": m}[letter] for letter in "BJM" if letter in keep)
        want_total[place] += (velocity[b, j, m] - target[b, j, m]) ** 2
        want_count[place] += 1
    np.testing.assert_allclose(total, want_total, rtol=1e-5)
    np.testing.assert_array_equal(count, want_count)
    assert total.dtype == count.dtype == jnp.float32


def test_an_axis_that_does_not_exist_is_an_error():
    with pytest.raises(ValueError, match=r"'BT': \['T'\] are none of"):
        kept_sum(normal(0), some_valid(), "BT")


@pytest.mark.parametrize("loss", [velocity_error, gripper_cross_entropy])
def test_what_is_not_valid_changes_no_bit_of_loss_and_gradient(loss):
    predicted, target, valid = normal(0), normal(1), some_valid()

    def both(predicted, target):
        return jax.value_and_grad(lambda p: loss(p, target, valid)[0])(predicted)

    value, gradient = both(predicted, target)
    for garbage in (1e30, np.nan, -np.inf):
        spoiled = both(np.where(valid, predicted, garbage), np.where(valid, target, garbage))
        np.testing.assert_array_equal(value, spoiled[0])
        np.testing.assert_array_equal(gradient, spoiled[1])
    assert np.any(gradient[valid]) and not np.any(gradient[~valid])


def test_low_precision_is_summed_in_float32():
    velocity = jnp.full((B, 200, M), 1.0, jnp.bfloat16)
    total, count = velocity_error(velocity, jnp.zeros_like(velocity), jnp.ones(velocity.shape, bool))
    assert total == count == B * 200 * M


def test_gripper_entropy_is_that_of_a_coin():
    logit, action, valid = 3 * normal(0), np.float32(normal(1) > 0), some_valid()
    total, count = gripper_cross_entropy(logit, action, valid)
    probability = 1 / (1 + np.exp(-logit.astype(np.float64)))
    entropy = -np.log(np.where(action > 0, probability, 1 - probability))
    np.testing.assert_allclose(total, entropy[valid].sum(), rtol=1e-5)
    assert count == valid.sum()


def test_a_gripper_that_is_sure_and_right_costs_nothing_and_never_overflows():
    every = np.ones((B, J, M), bool)
    target = np.float32(normal(1) > 0)
    right, _ = gripper_cross_entropy(1e4 * (2 * target - 1), target, every)
    wrong, _ = gripper_cross_entropy(1e4 * (1 - 2 * target), target, every)
    assert right == 0
    assert wrong == pytest.approx(1e4 * B * J * M)
    beyond, _ = gripper_cross_entropy(normal(0), 1.5 * target, every)
    assert beyond == gripper_cross_entropy(normal(0), target, every)[0]
