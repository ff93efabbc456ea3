"""Scheduled sampling: a second pass over plan and actions, on what is cached before them."""

import jax
import numpy as np
import pytest
from whole_policy import CODES, POLICY, observation, targets

from farsighted_jax.policy.scheduled_sampling import scheduled_outputs


@pytest.fixture(scope="module")
def params():
    shapes = jax.eval_shape(POLICY.init, jax.random.key(0), observation(), **targets())["params"]
    rng = np.random.default_rng(4)
    return jax.tree.map(lambda leaf: (0.1 * rng.normal(size=leaf.shape)).astype(np.float32), shapes)


@pytest.fixture(scope="module")
def scheduled(params):
    """replaced_BtZ -> outputs, compiled once."""

    def outputs(params, replaced_BtZ):
        arguments = targets(replaced_BtZ=replaced_BtZ)
        return POLICY.apply({"params": params}, observation(), **arguments, method=scheduled_outputs)

    compiled = jax.jit(outputs)
    return lambda replaced_BtZ: compiled(params, replaced_BtZ)


@pytest.fixture(scope="module")
def plain(params):
    """code_BtZ -> outputs of one pass."""

    def outputs(params, code_BtZ):
        return POLICY.apply({"params": params}, observation(), **targets(code_BtZ=code_BtZ))

    compiled = jax.jit(outputs)
    return lambda code_BtZ: compiled(params, code_BtZ)


def assert_same(found, expected):
    for name, value in expected._asdict().items():
        np.testing.assert_allclose(getattr(found, name), value, atol=1e-5, err_msg=name)


def test_without_a_replaced_code_it_is_the_plain_pass(scheduled, plain):
    assert_same(scheduled(np.zeros(CODES.shape, bool)), plain(CODES))


def test_replaced_codes_are_the_likeliest_under_the_teacher(scheduled, plain):
    replaced = np.zeros(CODES.shape, bool)
    replaced[0, 1, 0] = replaced[1, 0] = True
    likeliest = np.asarray(plain(CODES).logit_BnV).argmax(axis=-1).reshape(CODES.shape)
    mixed = np.where(replaced, likeliest, CODES)
    assert (mixed != CODES).any()
    assert_same(scheduled(replaced), plain(mixed.astype(np.int32)))
