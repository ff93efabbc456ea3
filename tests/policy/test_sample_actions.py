"""Sampling action chunks: steps, masks, committed steps, compilations, and a mixture that is learned."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from farsighted_jax.core.rng import sample_keys, step_key
from farsighted_jax.losses.flow import velocity_error
from farsighted_jax.policy.action_head import ActionHead
from farsighted_jax.policy.flow_matching import FlowError, overlap_weights, training_point
from farsighted_jax.policy.sample import action_sampler, sample_actions

B, J, M, E = 3, 4, 5, 6


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


class CountingHead:
    """Stands where an ActionHead does; counts how often it is traced and how often it runs."""

    def __init__(self):
        self.num_traced = self.num_run = 0

    def apply(self, variables, x, t, condition, embodiment, valid, context=None, context_valid=None):
        self.num_traced += 1
        jax.debug.callback(self._ran)
        return jnp.tanh(x * variables["params"] + condition.mean(-1, keepdims=True))

    def _ran(self):
        self.num_run += 1


def call(sample, num_samples=B, seed=1, **more):
    valid = jnp.ones((num_samples, J, M), bool)
    embodiment = jnp.zeros(num_samples, jnp.int32)
    out = sample(0.7, jax.random.key(seed), normal(seed, num_samples, J, E), embodiment, valid, **more)
    jax.effects_barrier()
    return out


@pytest.mark.parametrize(("solver", "calls"), [("euler", 10), ("heun", 20)])
def test_the_head_runs_as_often_as_the_solver_says_and_is_compiled_once_a_shape(solver, calls):
    head = CountingHead()
    sample = action_sampler(head, 10, solver)
    first = call(sample)
    traced = head.num_traced
    assert head.num_run == calls
    # Other weights, keys and conditions are no other shape.
    second = call(sample, seed=2)
    assert head.num_run == 2 * calls
    assert head.num_traced == traced and sample._cache_size() == 1
    assert np.abs(first - second).max() > 1e-3
    call(sample, num_samples=2)
    assert head.num_traced == 2 * traced and sample._cache_size() == 2


def test_the_condition_is_computed_once_for_all_steps():
    ran = []

    @jax.jit
    def policy(observation):
        # What a backbone does: it runs outside the solver, which closes over its result.
        jax.debug.callback(lambda: ran.append("backbone"))
        condition = jnp.sin(observation)

        def velocity(x, t):
            jax.debug.callback(lambda: ran.append("head"))
            return condition - x

        return sample_actions(velocity, jax.random.key(0), (B, J, M), jnp.ones((B, 1, M), bool), 7)

    policy(normal(0, B, J, M)).block_until_ready()
    jax.effects_barrier()
    assert ran.count("backbone") == 1 and ran.count("head") == 7


def spread(x, t):
    """A velocity in which every dimension and step of a sample tells on every other."""
    return jnp.broadcast_to(jnp.sum(x, axis=(1, 2), keepdims=True) + 1, x.shape)


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_padded_dimensions_are_zero_and_influence_nothing(solver):
    valid = np.ones((B, 1, M), bool)
    valid[0, 0, 3:] = valid[2] = False
    out = sample_actions(spread, jax.random.key(0), (B, J, M), valid, 4, solver)
    whole = np.broadcast_to(valid, out.shape)
    assert not np.any(out[~whole]) and np.all(np.asarray(out)[whole] != 0)

    def spoiled(x, t):
        return jnp.where(valid, spread(jnp.where(valid, x, 0), t), jnp.nan)

    again = sample_actions(spoiled, jax.random.key(0), (B, J, M), valid, 4, solver)
    np.testing.assert_array_equal(out, again)


def test_a_sample_does_not_depend_on_the_size_of_its_batch():
    every = np.ones((1, 1, M), bool)
    many = sample_actions(spread, jax.random.key(0), (B, J, M), every, 2)
    one = sample_actions(spread, jax.random.key(0), (1, J, M), every, 2)
    np.testing.assert_allclose(many[:1], one, rtol=1e-6)
    assert np.abs(many[0] - many[1]).max() > 1e-3


def test_a_sample_with_a_key_of_its_own_does_not_depend_on_its_batch():
    every, keys = np.ones((1, 1, M), bool), jax.vmap(jax.random.key)(np.arange(B))
    many = sample_actions(spread, keys, (B, J, M), every, 2)
    turned = sample_actions(spread, keys[::-1], (B, J, M), every, 2)
    np.testing.assert_array_equal(many[::-1], turned)
    assert np.abs(many[0] - many[1]).max() > 1e-3


def test_without_a_key_the_flow_starts_from_zero():
    out = sample_actions(lambda x, t: jnp.where(t[:, None, None] == 0, x + 1, 0), None, (B, J, M), True, 2)
    np.testing.assert_array_equal(out, np.full((B, J, M), 0.5, np.float32))


def test_committed_steps_are_kept_bit_for_bit_and_their_number_compiles_nothing():
    sample = action_sampler(CountingHead(), 5)
    committed, free = normal(4, B, J, M), None
    for num in (0, 1, 3, J):
        weight = overlap_weights(jnp.full(B, num), jnp.full(B, min(num, 1) * J), J)
        out = call(sample, known_BJM=committed, weight_BJM=weight)
        np.testing.assert_array_equal(out[:, :num], committed[:, :num])
        free = out if free is None else free
    assert sample._cache_size() == 1
    np.testing.assert_allclose(free, call(sample), atol=1e-6)


def test_an_unknown_solver_is_an_error():
    with pytest.raises(FlowError, match="'midpoint'"):
        action_sampler(CountingHead(), solver="midpoint")
    with pytest.raises(FlowError, match="found 0"):
        sample_actions(spread, jax.random.key(0), (B, J, M), np.ones((B, J, M), bool), 0)


def test_a_tiny_head_learns_both_modes_of_a_mixture():
    head = ActionHead(width=32, depth=2, num_heads=2, action_width=3)
    modes = jnp.array([[1.0, -0.5, 0], [-1.0, 0.5, 0]])
    batch = 128
    valid = np.broadcast_to(np.array([True, True, False]), (batch, 1, 3))
    condition, embodiment = np.ones((batch, 1, 4), np.float32), np.zeros(batch, np.int32)
    optimizer = optax.adam(optax.cosine_decay_schedule(5e-3, 400))

    def loss(params, key):
        which = jax.random.bernoulli(jax.random.fold_in(key, 1), 0.5, (batch, 1)).astype(int)
        noisy, t, target = training_point(sample_keys(key, jnp.arange(batch)), modes[which], valid)
        velocity = head.apply({"params": params}, noisy, t, condition, embodiment, valid)
        total, count = velocity_error(velocity, target, valid)
        return total / count

    @jax.jit
    def trained(key):
        params = head.init(key, modes[:1, None], np.zeros(1), condition[:1], embodiment[:1], valid[:1])
        params = params["params"]

        def step(carry, index):
            params, state = carry
            value, gradient = jax.value_and_grad(loss)(params, step_key(key, index))
            update, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, update), state), value

        carry, values = jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(400))
        return carry[0], values

    params, values = trained(jax.random.key(0))
    assert values[-50:].mean() < 0.6 * values[0]
    for solver in ("euler", "heun"):
        sample = action_sampler(head, 10, solver)
        chunk = np.asarray(sample(params, jax.random.key(1), condition, embodiment, valid))[:, 0]
        distance = np.linalg.norm(chunk[:, None] - modes, axis=-1)
        assert (distance.min(1) < 0.3).mean() > 0.85
        share = (distance.argmin(1) == 0).mean()
        assert 0.3 < share < 0.7
