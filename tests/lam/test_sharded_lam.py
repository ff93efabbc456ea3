"""The LAM's training step on 1 device and on 8, however they are arranged."""

import functools

import jax
import numpy as np
import pytest
import toy_task
from lam_cases import lam_task, random_batch

from farsighted_jax.checkpoint.digest import content_digests
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


def wide_batch(seed):
    parts = [random_batch(seed + i) for i in range(3)]
    batch = {name: np.concatenate([part[name] for part in parts])[:16] for name in parts[0]}
    return {name: array for name, array in batch.items() if name != "row"}


@functools.cache
def run(name, steps=3):
    sizes = MESHES.get(name, {"data": 1, "fsdp": 1, "tensor": 1})
    mesh = make_mesh(sizes, None if name in MESHES else jax.devices()[:1])
    config, task = toy_task.toy_config(), lam_task("layers")
    optimizer = make_optimizer(config.optimizer, config.total_steps)
    initialize = train_state.initializer(task, optimizer, wide_batch(0), config)
    abstract = train_state.abstract_state(mesh, rules.DEFAULT_RULES, initialize)
    state = train_state.create(initialize, abstract, seed=3)
    initial = content_digests(train_state.to_items(state))
    step = jax.jit(make_train_step(task, optimizer))
    losses = []
    for index in range(steps):
        state, metrics = step(state, place.shard_batch(wide_batch(index), mesh))
        losses.append(float(metrics["loss"][0]))
    split = max(
        len({str(s.index) for s in leaf.addressable_shards}) for leaf in jax.tree.leaves(state.params)
    )
    return initial, np.array(losses), split


@pytest.mark.slow
@pytest.mark.parametrize("name", MESHES)
def test_initialisation_is_bit_identical_and_steps_agree(name):
    initial, losses, _ = run("single")
    sharded_initial, sharded_losses, split = run(name)
    assert sharded_initial == initial
    assert split == {"data": 1, "fsdp": 8, "tensor": 8, "mixed": 4}[name]
    np.testing.assert_allclose(sharded_losses, losses, rtol=1e-5)
