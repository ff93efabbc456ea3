"""Everything a run needs to go on: one tree, and its form in a checkpoint."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from farsighted_jax.core import rng, tree
from farsighted_jax.core.task import PRETRAINED, Task
from farsighted_jax.sharding import rules as sharding_rules
from farsighted_jax.train import gate
from farsighted_jax.train.optimizer import Optimizer


@flax.struct.dataclass
class TrainState:
    """State of training between two steps.

    Attributes:
      params: trainable parameters, nested dicts.
      frozen: parameters without gradient and optimizer state: those that the
        configuration freezes and, under `PRETRAINED`, networks trained elsewhere.
      model_state: what the task updates itself (codebook statistics).
      opt_state: of the optimizer's transform.
      ema: average of `params`, or {}.
      step: int32 scalar, number of steps done, those not applied included.
      rng: typed key; the key of a step is derived from it and `step`.
      skipped: int32 scalars: `total` steps not applied, how many `in_a_row`, the
        number of the `last` one (-1: none).
      health: scalars of the health gate, see `gate.initial_health`.
    """

    params: Any
    frozen: Any
    model_state: Any
    opt_state: Any
    ema: Any
    step: jax.Array
    rng: jax.Array
    skipped: dict[str, jax.Array]
    health: dict[str, jax.Array]


def initial_state(
    key: jax.Array,
    task: Task,
    optimizer: Optimizer,
    batch: Mapping[str, Any],
    freeze: Sequence[str],
    average: bool,
) -> TrainState:
    """A fresh state without pretrained networks; a function of `key` alone, the batch gives only shapes.

    Args:
      key: typed random key of the run.
      task: the model.
      optimizer: from `make_optimizer`.
      batch: arrays or shapes of one global batch.
      freeze: patterns of the parameters that are not trained.
      average: whether to keep an average of the parameters.

    Raises:
      ValueError: a freeze pattern matches no parameter.
    """
    zeros = {name: jnp.zeros(leaf.shape, leaf.dtype) for name, leaf in batch.items()}
    params, model_state = task.init(rng.named_key(key, "init"), zeros)
    params, frozen = tree.partition(params, freeze)
    return TrainState(
        params=params,
        frozen=frozen,
        model_state=model_state,
        opt_state=optimizer.transform.init(params),
        ema=jax.tree.map(jnp.copy, params) if average else {},
        step=jnp.zeros((), jnp.int32),
        rng=rng.named_key(key, "train"),
        skipped={"total": jnp.zeros((), jnp.int32), "in_a_row": jnp.zeros((), jnp.int32),
                 "last": jnp.full((), -1, jnp.int32)},
        health=gate.initial_health(),
    )  # fmt: skip


def abstract_state(
    mesh: Mesh,
    rules: Sequence[sharding_rules.Rule],
    initialize: Callable[[jax.Array], TrainState],
    pretrained: Mapping[str, Any] | None = None,
) -> TrainState:
    """Shapes and shardings of the state that `initialize(key)` gives; nothing is computed.

    Args:
      mesh: from `make_mesh`.
      rules: sharding rules of the parameters.
      initialize: key -> fresh state.
      pretrained: `Task.pretrained_shapes`, which belong to the state too.
    """
    abstract = jax.eval_shape(initialize, jax.random.key(0))
    if pretrained:
        abstract = abstract.replace(frozen={**abstract.frozen, PRETRAINED: dict(pretrained)})
    return sharding_rules.with_shardings(abstract, sharding_rules.state_shardings(mesh, rules, abstract))


def create(
    initialize: Callable[[jax.Array], TrainState],
    abstract: TrainState,
    seed: int,
    pretrained: Mapping[str, Any] | None = None,
) -> TrainState:
    """Runs the initialisation on the mesh, each device computing its own part.

    Args:
      initialize: key -> fresh state.
      abstract: from `abstract_state`.
      seed: of the run.
      pretrained: the values of the networks that `abstract` has and `initialize` does not give.
    """
    own = {name: part for name, part in abstract.frozen.items() if name != PRETRAINED}
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract.replace(frozen=own))
    state = jax.jit(initialize, out_shardings=shardings)(jax.random.key(seed))
    return state.replace(frozen={**state.frozen, PRETRAINED: dict(pretrained)}) if pretrained else state


def initializer(task, optimizer, batch, config) -> Callable[[jax.Array], TrainState]:
    """`initial_state` with everything but the key filled in from a run's configuration."""
    return functools.partial(
        initial_state, task=task, optimizer=optimizer, batch=batch,
        freeze=tuple(config.optimizer.freeze), average=config.optimizer.ema_decay > 0,
    )  # fmt: skip


def to_items(state: TrainState) -> dict[str, Any]:
    """The checkpoint items of a state: trees of dicts, none of them empty, without the frozen parameters."""
    return _items(state, jax.random.key_data(state.rng))


def abstract_items(abstract: TrainState) -> dict[str, Any]:
    """Shapes and shardings of `to_items`, and the item "frozen" if there are frozen parameters."""
    data = jax.eval_shape(jax.random.key_data, abstract.rng)
    items = _items(abstract, jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=abstract.rng.sharding))
    return items | ({"frozen": abstract.frozen} if abstract.frozen else {})


def _items(state, rng_data):
    optimizer = {
        "opt_state": tree.nested(tree.flat_paths(state.opt_state)),
        "rng": rng_data,
        "step": state.step,
        "skipped": state.skipped,
        "health": state.health,
    }
    items = {
        "params": state.params, "model_state": state.model_state, "ema": state.ema, "optimizer": optimizer
    }  # fmt: skip
    return {name: item for name, item in items.items() if jax.tree.leaves(item)}


def from_items(items: Mapping[str, Any], abstract: TrainState) -> TrainState:
    """Inverse of `to_items`; `abstract` gives the structure of the optimizer state."""
    optimizer = items["optimizer"]
    stored = tree.flat_paths(optimizer["opt_state"])
    structure = jax.tree.structure(abstract.opt_state)
    key = jax.random.wrap_key_data(optimizer["rng"], impl=jax.random.key_impl(jax.random.key(0)))
    return TrainState(
        params=items["params"],
        frozen=items.get("frozen", {}),
        model_state=items.get("model_state", {}),
        opt_state=jax.tree.unflatten(
            structure, [stored[path] for path in tree.flat_paths(abstract.opt_state)]
        ),
        ema=items.get("ema", {}),
        step=optimizer["step"],
        rng=jax.device_put(key, abstract.rng.sharding),
        skipped=optimizer["skipped"],
        health=optimizer["health"],
    )
