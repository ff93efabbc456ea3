"""The same initialisation and the same step on 1 device and on 8, however they are arranged."""

import functools

import jax
import numpy as np
import pytest
import toy_task

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
    "accumulated": {"data": 2, "fsdp": 2, "tensor": 2},
}


@functools.cache
def _run(name, steps=5):
    sizes = MESHES.get(name, {"data": 1, "fsdp": 1, "tensor": 1})
    mesh = make_mesh(sizes, None if name in MESHES else jax.devices()[:1])
    config, task, stream = (
        toy_task.toy_config(optimizer__ema_decay=0.9),
        toy_task.ToyTask(),
        toy_task.ToyStream(),
    )
    optimizer = make_optimizer(config.optimizer, config.total_steps)
    initialize = train_state.initializer(task, optimizer, stream.batch(0), config)
    abstract = train_state.abstract_state(mesh, rules.DEFAULT_RULES, initialize)
    state = train_state.create(initialize, abstract, seed=3)
    initial = content_digests(train_state.to_items(state))
    widest = max(
        len({str(s.index) for s in leaf.addressable_shards}) for leaf in jax.tree.leaves(state.params)
    )
    accumulation = 2 if name == "accumulated" else 1
    step = jax.jit(make_train_step(task, optimizer, accumulation=accumulation, ema_decay=0.9))
    losses = []
    for index in range(steps):
        state, metrics = step(state, place.shard_batch(stream.batch(index), mesh))
        losses.append(float(metrics["loss"][0]))
    return initial, widest, np.array(losses), jax.device_get((state.params, state.model_state, state.ema))


@pytest.mark.parametrize("name", MESHES)
def test_initialisation_is_bit_identical_and_steps_agree(name):
    initial, _, losses, final = _run("single")
    sharded_initial, widest, sharded_losses, sharded_final = _run(name)
    assert sharded_initial == initial
    assert widest == {"data": 1, "mixed": 4, "accumulated": 4, "fsdp": 8, "tensor": 8}[name]
    np.testing.assert_allclose(sharded_losses, losses, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), sharded_final, final)
