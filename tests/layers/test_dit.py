"""adaLN-Zero blocks: identity at the start, masks, order of attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farsighted_jax.core import tree
from farsighted_jax.layers.dit import Dit, DitBlock

B, Q, S, D = 2, 3, 5, 8


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


INPUTS = (normal(0, B, Q, D), normal(1, B, D), normal(2, B, S, D))


def randomized(params):
    return jax.tree.map(lambda leaf: normal(leaf.size, *leaf.shape) / 3, params)


@pytest.mark.parametrize("source", [None, INPUTS[2]], ids=["among steps", "to a source"])
def test_a_block_is_the_identity_at_the_start_and_not_for_ever(source):
    block = DitBlock(num_heads=2)
    x, vector, _ = INPUTS
    out, variables = jax.jit(block.init_with_output)(jax.random.key(0), x, vector, source)
    np.testing.assert_array_equal(out, x)
    zero = {path for path, leaf in tree.flat_paths(variables["params"]).items() if not np.any(leaf)}
    assert {path for path in zero if path.endswith("kernel")} == {"modulation/dense/kernel"}
    moved = jax.jit(block.apply)({"params": randomized(variables["params"])}, x, vector, source)
    assert np.abs(moved - x).max() > 0.1


@pytest.fixture(scope="module")
def stack():
    """A jitted stack of two pairs with random weights."""
    dit = Dit(depth=4, num_heads=2)
    shapes = jax.eval_shape(lambda: dit.init(jax.random.key(0), *INPUTS))["params"]
    params = randomized(shapes)
    return params, jax.jit(lambda *inputs: dit.apply({"params": params}, *inputs))


def test_layers_are_stacked_in_pairs_with_weights_of_their_own(stack):
    params, _ = stack
    assert set(params) == {"pairs"} and set(params["pairs"]) == {"cross", "self"}
    assert params["pairs"]["cross"]["modulation"]["dense"]["kernel"].shape == (2, D, 6 * D)
    first = jax.jit(Dit(depth=4, num_heads=2).init)(jax.random.key(0), *INPUTS)["params"]
    query = first["pairs"]["cross"]["query"]["kernel"]
    assert np.abs(query[0] - query[1]).max() > 0.01


def test_masked_source_tokens_and_steps_are_not_looked_at(stack):
    _, run = stack
    x, vector, source = INPUTS
    source_valid, step_valid = np.ones((B, S), bool), np.ones((B, Q), bool)
    source_valid[0, 3:] = step_valid[1, 2:] = False
    before = run(x, vector, source, source_valid, step_valid)
    spoiled = run(
        np.where(step_valid[..., None], x, 9), vector, np.where(source_valid[..., None], source, 9),
        source_valid, step_valid,
    )  # fmt: skip
    np.testing.assert_array_equal(before[step_valid], spoiled[step_valid])
    everything = run(x, vector, source, np.ones_like(source_valid), np.ones_like(step_valid))
    for b in range(B):
        assert np.abs(before - everything)[b, :2].max() > 1e-3


def test_steps_see_each_other_and_the_source(stack):
    _, run = stack
    valid = np.ones((B, S), bool), np.ones((B, Q), bool)
    grad = jax.grad(lambda *inputs: run(*inputs, *valid)[0, 0].sum(), argnums=(0, 1, 2))
    to_x, to_vector, to_source = grad(*INPUTS)
    assert (np.abs(to_x[0]).max(-1) > 1e-4).all()
    assert np.any(to_vector[0])
    assert (np.abs(to_source[0]).max(-1) > 1e-4).all()
    assert not any(np.any(gradient[1]) for gradient in (to_x, to_vector, to_source))


@pytest.mark.parametrize("depth", [0, 3])
def test_an_odd_depth_is_an_error(depth):
    with pytest.raises(ValueError, match=f"even depth.*found {depth}"):
        jax.eval_shape(lambda: Dit(depth, 2).init(jax.random.key(0), *INPUTS))


def test_bfloat16_stays_bfloat16_with_float32_parameters():
    out, variables = jax.eval_shape(
        lambda: Dit(2, 2, dtype=jnp.bfloat16).init_with_output(jax.random.key(0), *INPUTS)
    )
    assert out.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
