"""The training loop's view of a model: the loop knows a `Task`, never a model."""

from __future__ import annotations

from typing import Any, Protocol

import jax

Batch = dict[str, jax.Array]
Metrics = dict[str, tuple[jax.Array, jax.Array]]

# Under this name `params` holds the networks that were trained elsewhere, each under its own name.
PRETRAINED = "pretrained"

# `jax.named_scope`s by which counts and profiles tell apart what is no training of the model: networks
# that give inputs or targets, those that a loss compares images in, and what is made of weights alone.
FROZEN, PERCEPTUAL, WEIGHTS_ALONE = "frozen_networks", "perceptual_loss", "weights_alone"


class Task(Protocol):
    """What the loop, the evaluators and the benchmarks need of a model and its losses.

    Every method is pure and may be traced. A step's batch may be cut into
    micro-batches: `denominators` sees the whole batch, `loss` one piece of it,
    so that the sum of the pieces' losses and gradients is exactly the whole's.

    In a training step the batch carries one more field: `row`, int32[B], the
    index of each sample in the global batch. Randomness drawn with
    `core.rng.sample_keys(key, batch["row"])` does not depend on the cutting.

    Attributes:
      partial_init: whether a warm start may leave parameters fresh that the other
        run does not have, and leave over those that only that one has.
    """

    partial_init: bool

    def init(self, key: jax.Array, batch: Batch) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parameters and model state (float32 dicts) for batches shaped like `batch`."""

    def pretrained_shapes(self) -> dict[str, Any]:
        """Networks that were trained elsewhere and stay as they are: name -> tree of shapes; {} for none.

        They are no part of what `init` gives, for random numbers must not stand
        in for them. Whoever calls the other methods puts them into `params`,
        under `PRETRAINED`; no gradient and no optimizer reaches them.
        """

    def denominators(self, batch: Batch) -> dict[str, jax.Array]:
        """Counts of valid elements, float32 scalars, one a loss term, from masks alone."""

    def loss(
        self,
        params: dict[str, Any],
        model_state: dict[str, Any],
        batch: Batch,
        key: jax.Array,
        denominators: dict[str, jax.Array],
    ) -> tuple[jax.Array, tuple[Metrics, Any]]:
        """Loss of one (micro-)batch.

        Returns:
          loss: float32 scalar, already divided by `denominators`; over the
            micro-batches of a step it adds up.
          metrics: name -> (sum, count), both add up over micro-batches.
          updates: what `merge_updates` and `next_model_state` take.
        """

    def merge_updates(self, first: Any, second: Any) -> Any:
        """Combines the updates of two micro-batches; associative."""

    def next_model_state(self, model_state: dict[str, Any], updates: Any) -> tuple[dict[str, Any], Metrics]:
        """Model state after a step, and metrics of it, from the merged updates of all micro-batches."""

    def restarted_model_state(self, model_state: dict[str, Any], updates: Any) -> dict[str, Any]:
        """Model state whose collapsed part starts anew; a health gate calls it, and nothing else.

        Args:
          model_state: after the step.
          updates: merged over the step.

        Returns:
          A tree of the same shapes; `model_state` itself where there is nothing to restart.
        """
