"""The training step of a configuration from shapes alone: traced, neither run nor compiled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from farsighted_jax.core.task import Task
from farsighted_jax.sharding.rules import DEFAULT_RULES
from farsighted_jax.train import gate as gate_module
from farsighted_jax.train import loop
from farsighted_jax.train import state as train_state
from farsighted_jax.train.optimizer import make_optimizer
from farsighted_jax.train.state import TrainState


def traced(
    task: Task, config: ConfigDict, sample: Mapping[str, Any], mesh: Mesh, batch_size: int
) -> tuple[TrainState, jax.stages.Traced]:
    """The step of `train.loop` on a mesh, whose devices may be absent.

    Args:
      task: of the configuration.
      config: see `configs/`.
      sample: batch of any size, or its shapes.
      mesh: from `make_mesh`.
      batch_size: B of the step.

    Returns:
      Shapes and shardings of the state, and the step.
    """
    shapes = {
        name: jax.ShapeDtypeStruct((batch_size, *leaf.shape[1:]), leaf.dtype) for name, leaf in sample.items()
    }
    optimizer, gate = make_optimizer(config.optimizer, config.total_steps), gate_module.make_gate(config.gate)
    initialize = train_state.initializer(task, optimizer, shapes, config)
    abstract = train_state.abstract_state(mesh, DEFAULT_RULES, initialize, task.pretrained_shapes())
    return abstract, loop.traced_step(task, optimizer, gate, config, mesh, abstract, shapes)
