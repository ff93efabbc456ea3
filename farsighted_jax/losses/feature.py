"""Reconstruction of frozen encoder tokens instead of, or beside, pixels."""

from __future__ import annotations

import jax
import jax.numpy as jnp

EPSILON = 1e-6


def layer_normalized(token_BtNE):
    """Each token with mean 0 and standard deviation 1 over its channels, in float32."""
    token_BtNE = token_BtNE.astype(jnp.float32)
    centered_BtNE = token_BtNE - jnp.mean(token_BtNE, axis=-1, keepdims=True)
    variance_BtN1 = jnp.mean(centered_BtNE**2, axis=-1, keepdims=True)
    return centered_BtNE * jax.lax.rsqrt(variance_BtN1 + EPSILON)


def token_error(predicted_BtNE, target_BtNE):
    """Mean squared error between predicted and layer-normalised frozen tokens of frame k.

    Only the target is normalised: the head predicts normalised tokens. Were the
    prediction normalised too, its gradient would explode where a head starts at zero.

    Args:
      predicted_BtNE: float[B, t, N, E].
      target_BtNE: float[B, t, N, E] tokens of a frozen encoder; no gradient flows into them.

    Returns:
      float32[B, t], mean over tokens and channels; 1 for a prediction of zeros.
    """
    target_BtNE = layer_normalized(jax.lax.stop_gradient(target_BtNE))
    return jnp.mean((predicted_BtNE.astype(jnp.float32) - target_BtNE) ** 2, axis=(-2, -1))
