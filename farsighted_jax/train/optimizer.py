"""AdamW with decay by parameter name; the learning rate is applied by the step, from its own number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import optax

from farsighted_jax.core import tree
from farsighted_jax.core.config import check_range
from farsighted_jax.train import schedules

# A scanned stack gives biases and scales a second axis, so the number of axes alone does not tell a matrix.
DEFAULT_NO_DECAY = (r"(bias|scale)$", r"norm", r"embedding", r"position")


class Optimizer(NamedTuple):
    """What a step needs.

    Attributes:
      transform: gradients -> update direction (clipped, Adam, decayed), without learning rate and sign.
      learning_rate: step number -> float32 scalar.
    """

    transform: optax.GradientTransformation
    learning_rate: Callable[[jax.Array], jax.Array]


def make_optimizer(config: Mapping[str, Any], total_steps: int) -> Optimizer:
    """AdamW from the `optimizer` part of a configuration.

    Raises:
      ConfigError: a value out of range; names the key.
    """
    for key, low, high in (
        ("learning_rate", 0.0, 1e3), ("final_learning_rate", 0.0, 1e3), ("b1", 0.0, 1.0), ("b2", 0.0, 1.0),
        ("weight_decay", 0.0, 1e3), ("clip_norm", 1e-12, 1e12), ("accumulation", 1, 2**20),
        ("ema_decay", 0.0, 1.0), ("max_bad_steps", 1, 2**30),
    ):  # fmt: skip
        check_range(f"optimizer.{key}", config[key], low, high)
    transform = optax.chain(
        optax.clip_by_global_norm(config["clip_norm"]),
        optax.scale_by_adam(b1=config["b1"], b2=config["b2"]),
        optax.add_decayed_weights(
            config["weight_decay"], lambda params: decay_mask(params, config["no_decay"])
        ),
    )
    learning_rate = schedules.warmup_cosine(
        total_steps, config["learning_rate"], config["final_learning_rate"], config["warmup_steps"]
    )
    return Optimizer(transform, learning_rate)


def decay_mask(params: Any, no_decay: Sequence[str] = DEFAULT_NO_DECAY) -> Any:
    """True for each leaf that decays: at least two axes, and no pattern found in its path."""
    return tree.map_with_path(lambda path, leaf: leaf.ndim >= 2 and not tree.matches(path, no_decay), params)
