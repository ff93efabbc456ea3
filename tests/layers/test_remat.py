"""Rematerialisation: the same values and gradients by every name, with less kept for the backward pass."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farsighted_jax.layers.dit import Dit
from farsighted_jax.layers.remat import POLICIES, rematerialised
from farsighted_jax.layers.space_time import SpaceTimeTransformer


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def space_time(remat, unroll=1):
    return SpaceTimeTransformer(5, 2, unroll=unroll, pyramid=(1, 2), pyramid_every=2, remat=remat)


def dit(remat, unroll=1):
    return Dit(6, 2, unroll, remat)


STACKS = {
    "space_time": (space_time, (normal(0, 2, 3, 5, 8),)),
    "dit": (dit, (normal(0, 2, 3, 8), normal(1, 2, 8), normal(2, 2, 5, 8))),
}


def objective(stack, inputs):
    return lambda params: jnp.sin(stack.apply({"params": params}, *inputs)).sum()


@pytest.fixture(scope="module", params=STACKS)
def case(request):
    """Of a stack: how it is made, inputs, random parameters, and value and gradient with all kept."""
    make, inputs = STACKS[request.param]
    stack = make("none")
    shapes = jax.eval_shape(stack.init, jax.random.key(0), *inputs)["params"]
    params = jax.tree.map(lambda leaf: normal(leaf.size, *leaf.shape) / 3, shapes)
    return make, inputs, params, jax.jit(jax.value_and_grad(objective(stack, inputs)))(params)


def num_kept(stack, inputs, params):
    """Numbers kept for the backward pass of so large a batch that weights do not count."""
    inputs = [np.repeat(array, 50, axis=0) for array in inputs]
    kept = jax.eval_shape(lambda params: jax.vjp(objective(stack, inputs), params)[1], params)
    return sum(leaf.size for leaf in jax.tree.leaves(kept))


@pytest.mark.parametrize(("remat", "unroll"), [("dots", 1), ("full", 1), ("dots", 9)])
def test_no_name_changes_a_value_or_a_gradient(case, remat, unroll):
    make, inputs, params, wanted = case
    found = jax.jit(jax.value_and_grad(objective(make(remat, unroll), inputs)))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5 * (1 + abs(b).max())), found, wanted)


def test_full_keeps_less_than_dots_and_dots_less_than_none(case):
    make, inputs, params, _ = case
    none, dots, full = (num_kept(make(remat), inputs, params) for remat in ("none", "dots", "full"))
    assert full < 0.8 * dots and dots < 0.8 * none


@pytest.mark.parametrize("remat", sorted(POLICIES.keys() - {"none"}))
def test_only_what_is_no_loop_is_kept_from_being_merged(remat):
    """An optimisation barrier keeps a compiler from taking the first computation for the second."""

    def barriers(unrolled):
        block = rematerialised(nn.Dense, remat, unrolled)(4)
        params = jax.eval_shape(block.init, jax.random.key(0), normal(0, 3, 4))
        gradient = jax.grad(lambda params: jnp.sin(block.apply(params, normal(0, 3, 4))).sum())
        return jax.jit(gradient).lower(params).as_text().count("optimization_barrier")

    assert barriers(True) > 0 == barriers(False)
