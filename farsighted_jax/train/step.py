"""The training step: a pure function (state, batch) -> (state, metrics)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from farsighted_jax.core import rng, tree
from farsighted_jax.core.task import Batch, Metrics, Task
from farsighted_jax.train.gate import Gate, next_health
from farsighted_jax.train.optimizer import Optimizer
from farsighted_jax.train.state import TrainState


def make_train_step(
    task: Task,
    optimizer: Optimizer,
    *,
    accumulation: int = 1,
    ema_decay: float = 0.0,
    max_bad_steps: int = 10,
    gate: Gate | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Builds the step.

    A step whose loss, gradient or new model state is not finite is not applied:
    everything but `step` and `skipped` keeps its bits. After `max_bad_steps` of
    them in a row no step is applied any more, so that whatever the host learns
    later, the state is that of the last good step.

    Args:
      task: model and losses.
      optimizer: from `make_optimizer`.
      accumulation: into how many micro-batches the batch is cut; it must divide it.
      ema_decay: of the averaged parameters; 0 keeps none.
      max_bad_steps: see above.
      gate: what tells a collapsed model. A step that ends a low window gives the
        task the occasion to restart parts of its model state.

    Returns:
      The step. Its metrics are (sum, count) pairs: `loss`, the task's own, and
      `grad_norm` (before clipping), `param_norm`, `update_norm`,
      `learning_rate`, `skipped_steps`, `skipped_in_a_row`; with a gate `gate_mean`
      (of the last window that ended) and `gate_low_in_a_row`.
    """
    gate = gate if gate and gate.metric else None

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        proposed, metrics, updates = _proposed_state(task, optimizer, state, batch, accumulation, ema_decay)
        if gate:
            proposed = _checked_health(task, gate, proposed, metrics, updates)
        finite = (
            jnp.isfinite(metrics["loss"][0])
            & jnp.isfinite(metrics["grad_norm"][0])
            & _all_finite(proposed.model_state)
        )
        state = _next_state(state, proposed, finite & (state.skipped["in_a_row"] < max_bad_steps))
        metrics |= {
            "skipped_steps": _single(state.skipped["total"]),
            "skipped_in_a_row": _single(state.skipped["in_a_row"]),
        }
        if gate:
            metrics["gate_mean"] = (
                state.health["mean"],
                jnp.float32(state.step >= gate.start_step + gate.window),
            )
            metrics["gate_low_in_a_row"] = _single(state.health["low_in_a_row"])
        return state, metrics

    return train_step


def _proposed_state(task, optimizer, state, batch, accumulation, ema_decay):
    """State after an ordinary step, its metrics, and the task's updates."""
    rows = jax.tree.leaves(batch)[0].shape[0]
    batch = {**batch, "row": jnp.arange(rows, dtype=jnp.int32)}
    key = rng.step_key(state.rng, state.step)
    loss_key = rng.named_key(key, "loss")
    loss, metrics, updates, grads = _gradients(task, state, batch, loss_key, accumulation)
    model_state, model_metrics = task.next_model_state(state.model_state, updates)
    rate = optimizer.learning_rate(state.step)
    direction, opt_state = optimizer.transform.update(grads, state.opt_state, state.params)
    change = jax.tree.map(lambda leaf: -rate * leaf, direction)
    params = optax.apply_updates(state.params, change)
    proposed = state.replace(
        params=params,
        opt_state=opt_state,
        model_state=model_state,
        ema=optax.incremental_update(params, state.ema, 1 - ema_decay) if ema_decay else {},
    )
    metrics = {
        **metrics,
        **model_metrics,
        "loss": _single(loss),
        "grad_norm": _single(optax.tree.norm(grads)),
        "param_norm": _single(optax.tree.norm(state.params)),
        "update_norm": _single(optax.tree.norm(change)),
        "learning_rate": _single(rate),
    }
    return proposed, metrics, updates


def _checked_health(task, gate, proposed, metrics, updates):
    """The proposed state with the gate's verdict, restarted if that is due."""
    health, low = next_health(gate, proposed.health, proposed.step + 1, metrics)
    restarted = task.restarted_model_state(proposed.model_state, updates)
    model_state = jax.tree.map(lambda new, old: jnp.where(low, new, old), restarted, proposed.model_state)
    return proposed.replace(health=health, model_state=model_state)


def _next_state(state, proposed, applied):
    """The proposed state or, bit for bit, the one before; the step is counted either way."""
    chosen = jax.tree.map(
        lambda new, old: jnp.where(applied, new, old),
        (proposed.params, proposed.opt_state, proposed.model_state, proposed.ema, proposed.health),
        (state.params, state.opt_state, state.model_state, state.ema, state.health),
    )
    skipped = {
        "total": state.skipped["total"] + ~applied,
        "in_a_row": jnp.where(applied, 0, state.skipped["in_a_row"] + 1),
        "last": jnp.where(applied, state.skipped["last"], state.step),
    }
    params, opt_state, model_state, ema, health = chosen
    return state.replace(
        params=params,
        opt_state=opt_state,
        model_state=model_state,
        ema=ema,
        step=state.step + 1,
        skipped=skipped,
        health=health,
    )


def _single(value):
    return value.astype(jnp.float32), jnp.ones((), jnp.float32)


def micro_batches(batch: Batch, accumulation: int) -> Batch:
    """Cuts a batch: [B, ...] -> [accumulation, B / accumulation, ...].

    Micro-batch i takes the rows i, i + accumulation, ..., so that each device's
    contiguous rows are shared evenly by all micro-batches and no row moves to
    another device.
    """

    def cut(leaf):
        if leaf.shape[0] % accumulation:
            raise ValueError(f"{leaf.shape[0]} rows are not divisible by accumulation {accumulation}")
        return leaf.reshape(-1, accumulation, *leaf.shape[1:]).swapaxes(0, 1)

    return jax.tree.map(cut, batch)


def _gradients(task, state, batch, key, accumulation):
    """Loss, metrics, merged updates and gradient of the whole batch."""
    denominators = task.denominators(batch)

    def loss_of(params, piece):
        loss, aux = task.loss(tree.merged(params, state.frozen), state.model_state, piece, key, denominators)
        return loss, aux

    gradient = jax.value_and_grad(loss_of, has_aux=True)
    if accumulation == 1:
        (loss, (metrics, updates)), grads = gradient(state.params, batch)
        return loss, metrics, updates, grads

    def add(total, indexed_piece):
        index, piece = indexed_piece
        (loss, (metrics, updates)), grads = gradient(state.params, piece)
        added = jax.tree.map(jnp.add, total[:2] + total[3:], (loss, metrics, grads))
        # There is no neutral update to start from, so the first one replaces the zeros.
        merged = task.merge_updates(total[2], updates)
        merged = jax.tree.map(lambda first, both: jnp.where(index == 0, first, both), updates, merged)
        return (*added[:2], merged, added[2]), None

    pieces = micro_batches(batch, accumulation)
    piece = jax.tree.map(lambda leaf: leaf[0], pieces)
    (loss, (metrics, updates)), grads = jax.eval_shape(gradient, state.params, piece)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (loss, metrics, updates, grads))
    total, _ = jax.lax.scan(add, zeros, (jnp.arange(accumulation), pieces))
    return total


def _all_finite(values: Any):
    floating = [leaf for leaf in jax.tree.leaves(values) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    checks = [jnp.isfinite(leaf).all() for leaf in floating]
    return jnp.stack(checks).all() if checks else jnp.bool_(True)
