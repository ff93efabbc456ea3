"""Learning rate as a function of step and `total_steps` alone: a resumed run follows the same curve."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from farsighted_jax.core.config import ConfigError

DEFAULT_WARMUP_SHARE = 0.05


def warmup_cosine(
    total_steps: int, peak: float, final: float, warmup_steps: int = -1
) -> Callable[[jax.Array], jax.Array]:
    """Linear warm-up from 0 to `peak`, then half a cosine down to `final` at `total_steps`.

    Args:
      total_steps: length of the whole run.
      peak: learning rate after the warm-up.
      final: learning rate of the last step and of any after it.
      warmup_steps: -1 for 5 % of `total_steps`. The first step already has peak / (warm-up + 1).

    Raises:
      ConfigError: total_steps < 1 or a warm-up longer than the run.
    """
    if total_steps < 1 or not -1 <= warmup_steps <= total_steps:
        raise ConfigError(
            f"configuration keys 'total_steps', 'optimizer.warmup_steps': {total_steps} and {warmup_steps}; "
            "expected total_steps >= 1 and -1 <= warmup_steps <= total_steps"
        )
    warmup = round(DEFAULT_WARMUP_SHARE * total_steps) if warmup_steps == -1 else warmup_steps

    def learning_rate(step):
        step = jnp.asarray(step, jnp.float32)
        rising = peak * (step + 1) / (warmup + 1)
        progress = jnp.clip((step - warmup) / max(total_steps - 1 - warmup, 1), 0.0, 1.0)
        falling = final + (peak - final) * 0.5 * (1 + jnp.cos(jnp.pi * progress))
        return jnp.where(step < warmup, rising, falling)

    return learning_rate
