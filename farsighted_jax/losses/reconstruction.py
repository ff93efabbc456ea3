"""Pixel reconstruction."""

from __future__ import annotations

import jax.numpy as jnp


def squared_error(predicted_BtHWC, target_BtHWC):
    """Mean squared error of each predicted frame (the L2 term of eq. 4).

    Args:
      predicted_BtHWC: float[B, t, H, W, C] within [0, 1].
      target_BtHWC: float[B, t, H, W, C] within [0, 1].

    Returns:
      float32[B, t].
    """
    difference = predicted_BtHWC.astype(jnp.float32) - target_BtHWC.astype(jnp.float32)
    return jnp.mean(difference**2, axis=(-3, -2, -1))
