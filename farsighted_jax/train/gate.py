"""Health gate: watches one metric, asks for a restart when it is low, and stops a run that stays so.

A collapsed model has a small loss and looks well until somebody evaluates it.
The mean over a window of steps is kept on the device, as part of the state: the
host copies nothing for it, and a resumed run judges the same windows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from farsighted_jax.core.config import check_choice, check_range
from farsighted_jax.core.task import Metrics


class CollapsedError(RuntimeError):
    """The watched metric stayed low; the message says which, since when and what may help."""


@dataclasses.dataclass(frozen=True)
class Gate:
    """When a run counts as collapsed.

    Attributes:
      metric: a metric of the task that is high in a healthy run; "" for no gate.
      minimum: a window whose mean is below it is low.
      start_step: windows begin after this step.
      window: steps of a window; one follows the other.
      patience: how many low windows in a row stop the run. At the end of each of
        them the task restarts what has collapsed.
    """

    metric: str = ""
    minimum: float = 0.0
    start_step: int = 500
    window: int = 100
    patience: int = 3


def make_gate(gate_config: Mapping[str, Any] | None) -> Gate:
    """The gate of a configuration's section `gate`; without that section there is none.

    Raises:
      ConfigError: a value out of range.
    """
    gate = Gate(**(gate_config or {}))
    for key, low in (("minimum", 0.0), ("start_step", 0), ("window", 1), ("patience", 1)):
        check_range(f"gate.{key}", getattr(gate, key), low)
    return gate


def initial_health() -> dict[str, jax.Array]:
    """Scalars on the device: sum and count of the window, mean of the last one, low ones in a row."""
    zero = jnp.zeros((), jnp.float32)
    return {"sum": zero, "count": zero, "mean": zero, "low_in_a_row": jnp.zeros((), jnp.int32)}


def next_health(gate: Gate, health: Mapping[str, jax.Array], step: jax.Array, metrics: Metrics):
    """Health after a step, and whether it ended a low window.

    Args:
      gate: what to watch.
      health: before the step.
      step: number of this step, counted from 1.
      metrics: of this step; a metric that counted nothing is left out of the mean.

    Returns:
      health: after the step.
      low: bool scalar.

    Raises:
      ConfigError: the task has no such metric.
    """
    check_choice("gate.metric", gate.metric, metrics)
    total, count = metrics[gate.metric]
    watched = (step > gate.start_step) & (count > 0)
    total = health["sum"] + jnp.where(watched, total / jnp.maximum(count, 1e-9), 0.0)
    count = health["count"] + watched
    ended = (step > gate.start_step) & ((step - gate.start_step) % gate.window == 0) & (count > 0)
    mean = total / jnp.maximum(count, 1.0)
    low = ended & (mean < gate.minimum)
    in_a_row = jnp.where(low, health["low_in_a_row"] + 1, 0)
    return {
        "sum": jnp.where(ended, 0.0, total),
        "count": jnp.where(ended, 0.0, count),
        "mean": jnp.where(ended, mean, health["mean"]),
        "low_in_a_row": jnp.where(ended, in_a_row, health["low_in_a_row"]),
    }, low


class HealthWatch:
    """Reads at logged steps what the device found: warns of each low window, stops after too many."""

    def __init__(self, gate: Gate, report: Callable[[str], None]):
        """Takes the gate and where warnings go."""
        self._gate, self._report, self._warned = gate, report, 0

    def check(self, values: Mapping[str, float], step: int) -> None:
        """Looks at the values of a logged step, before anything of it is saved.

        Raises:
          CollapsedError: `patience` windows in a row were low.
        """
        gate = self._gate
        low = int(values.get("train/gate_low_in_a_row", 0))
        if low > self._warned or low >= gate.patience:
            found = (
                f"step {step}: {gate.metric} was {values['train/gate_mean']:.4g} on average over a window of "
                f"{gate.window} steps, below gate.minimum = {gate.minimum:g}"
            )
            if low >= gate.patience:
                raise CollapsedError(
                    f"{found}, in {low} windows in a row, in spite of restarts: the model has "
                    "collapsed, what it tells apart is of no use. The last checkpoint is intact. Start anew "
                    "with another seed, a smaller learning rate or another quantiser; gate.patience sets how "
                    "long to wait, gate.metric = '' switches the gate off"
                )
            self._report(
                f"warning: {found} ({low} of {gate.patience} before the run stops); restarting what can be"
            )
        self._warned = low
