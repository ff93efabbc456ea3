"""Commitment and codebook losses of the vector quantiser."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def commitment(encoded_BtZU, quantized_BtZU):
    """Squared distance that pulls the encoder towards its code; the code gets no gradient.

    Args:
      encoded_BtZU: float[B, t, Z, U] encoder output.
      quantized_BtZU: float[B, t, Z, U] chosen codebook rows.

    Returns:
      float32[B, t], mean over slots and channels.
    """
    return _squared_distance(encoded_BtZU, jax.lax.stop_gradient(quantized_BtZU))


def codebook(encoded_BtZU, quantized_BtZU):
    """Squared distance that pulls the code towards the encoder; the encoder gets no gradient."""
    return _squared_distance(jax.lax.stop_gradient(encoded_BtZU), quantized_BtZU)


def _squared_distance(first, second):
    return jnp.mean((first.astype(jnp.float32) - second.astype(jnp.float32)) ** 2, axis=(-2, -1))
