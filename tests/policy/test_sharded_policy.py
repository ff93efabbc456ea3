"""The policy's training step on 1 device and on 8, however they are arranged."""

import functools

import jax
import numpy as np
import pytest
import toy_task
from learning_policy import policy_task, random_batch
from policy_cases import visible_params

from farsighted_jax.checkpoint.digest import content_digests
from farsighted_jax.core import tree
from farsighted_jax.sharding import place, rules
from farsighted_jax.sharding.mesh import make_mesh
from farsighted_jax.train import state as train_state
from farsighted_jax.train.optimizer import make_optimizer
from farsighted_jax.train.step import make_train_step

MESHES = {
    "data": {"data": 8, "fsdp": 1, "tensor": 1},
    "fsdp": {"data": 1, "fsdp": 8, "tensor": 1},
    "tensor": {"data": 1, "fsdp": 1, "tensor": 8},
    "mixed": {"data": 2, "fsdp": 2, "tensor": 2},
}


def wide_batch():
    parts = [random_batch(seed) for seed in range(4)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "row"}


@functools.cache
def run(name):
    """Digests of the initial state; then, after one step from visible parameters, metrics and state."""
    sizes = MESHES.get(name, {"data": 1, "fsdp": 1, "tensor": 1})
    mesh = make_mesh(sizes, None if name in MESHES else jax.devices()[:1])
    config = toy_task.toy_config(optimizer__warmup_steps=0)
    task = policy_task(scheduled_sampling=0.5, plan_dropout=0.5)
    optimizer = make_optimizer(config.optimizer, config.total_steps)
    initialize = train_state.initializer(task, optimizer, wide_batch(), config)
    abstract = train_state.abstract_state(mesh, rules.DEFAULT_RULES, initialize, task.pretrained_shapes())

    def placed(shapes):
        values = visible_params(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes))
        return jax.tree.map(lambda value, shape: jax.device_put(value, shape.sharding), values, shapes)

    networks = placed(abstract.frozen["pretrained"])
    state = train_state.create(initialize, abstract, seed=3, pretrained=networks)
    initial = content_digests(train_state.to_items(state))
    # Fresh zeros of gates and heads would hide what lies behind them.
    state = state.replace(params=placed(abstract.params))
    state, metrics = jax.jit(make_train_step(task, optimizer))(state, place.shard_batch(wide_batch(), mesh))
    split = max(
        len({str(s.index) for s in leaf.addressable_shards}) for leaf in jax.tree.leaves(state.params)
    )
    return initial, split, jax.device_get(metrics), jax.device_get((state.params, state.opt_state))


def assert_close(found, expected, where=None):
    """Within 1e-5 of each leaf's largest value; `where` are leaves that say which elements count."""
    found, expected = tree.flat_paths(found), tree.flat_paths(expected)
    for path, value in expected.items():
        difference = np.abs(found[path] - value)
        if where is not None:
            difference = np.where(tree.flat_paths(where)[path], difference, 0)
        assert np.max(difference, initial=0) <= 1e-5 * max(np.abs(value).max(initial=0), 1e-3), path


@pytest.mark.slow
@pytest.mark.parametrize("name", MESHES)
def test_initialisation_is_bit_identical_and_a_step_agrees(name):
    initial, _, metrics, (params, opt_state) = run("single")
    sharded_initial, split, sharded_metrics, (sharded_params, sharded_opt_state) = run(name)
    assert sharded_initial == initial
    assert split == {"data": 1, "fsdp": 8, "tensor": 8, "mixed": 4}[name]
    assert {"loss", "action", "gripper", "latent", "vision", "depth", "feature"} <= metrics.keys()
    for key, (total, count) in metrics.items():
        np.testing.assert_allclose(sharded_metrics[key][0], total, rtol=1e-5, atol=1e-6, err_msg=key)
        assert sharded_metrics[key][1] == count
    # After one step the first moment is the gradient, but for a factor.
    gradient, sharded_gradient = (state[1].mu for state in (opt_state, sharded_opt_state))
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))
    assert_close(sharded_gradient, gradient)
    # The first update is little more than the sign of the gradient, which rounding decides where it is 0.
    clear = jax.tree.map(lambda leaf: np.abs(leaf) > 1e-3 * np.abs(leaf).max(), gradient)
    assert_close(sharded_params, params, clear)
