"""LPIPS (arXiv 1801.03924): distance of two images in the features of a frozen network."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

# Mean and standard deviation of ImageNet rgb, moved from [0, 1] to the [-1, 1] that LPIPS takes.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)


def lpips_input(rgb):
    """float[..., 3] rgb within [0, 1] -> float32, normalised as LPIPS feeds its network."""
    signed = 2.0 * rgb.astype(jnp.float32) - 1.0
    return (signed - jnp.asarray(SHIFT, jnp.float32)) / jnp.asarray(SCALE, jnp.float32)


def unit_length(feature_BYXE):
    """Each position's feature vector divided by its length, in float32.

    A position where every channel is zero (common behind a ReLU) stays zero and
    gets no gradient; the derivative of a plain square root would be infinite there.
    """
    feature_BYXE = feature_BYXE.astype(jnp.float32)
    square_BYX1 = jnp.sum(feature_BYXE**2, axis=-1, keepdims=True)
    alive_BYX1 = square_BYX1 > 0
    length_BYX1 = jnp.sqrt(jnp.where(alive_BYX1, square_BYX1, 1.0))
    return jnp.where(alive_BYX1, feature_BYXE / (length_BYX1 + 1e-10), 0.0)


def lpips(
    predicted_BtHWC,
    target_BtHWC,
    features: Callable[..., Sequence],
    feature_params,
    linear_params: Sequence,
):
    """LPIPS of each predicted frame, differentiable with respect to both images.

    The network and the linear weights are frozen: no gradient reaches them. The network may
    compute in bfloat16, its convolutions add up in float32 inside; lengths, differences and
    sums of its features are float32.

    Args:
      predicted_BtHWC: float[B, t, H, W, 3] within [0, 1].
      target_BtHWC: float[B, t, H, W, 3] within [0, 1].
      features: (feature_params, float32[B * t, H, W, 3]) -> one float[B * t, Y, X, E] a layer.
      feature_params: parameters of `features`.
      linear_params: one float[E] of non-negative weights a layer.

    Returns:
      float32[B, t], summed over layers, mean over positions.

    Raises:
      ValueError: layers or channels of features and linear weights differ in number.
    """
    feature_params, linear_params = jax.lax.stop_gradient((feature_params, list(linear_params)))
    predicted, target = (
        features(feature_params, lpips_input(rgb).reshape(-1, *rgb.shape[-3:]))
        for rgb in (predicted_BtHWC, target_BtHWC)
    )
    _check_layers(predicted, linear_params)
    layers = zip(predicted, target, linear_params, strict=True)
    total_B = sum(_distance(*layer) for layer in layers)
    return total_B.reshape(predicted_BtHWC.shape[:2])


def _distance(a_BYXE, b_BYXE, weight_E):
    """Of one layer's features, float32[B]. No matrix product: accelerators round the factors of those."""
    weighted_BYXE = (unit_length(a_BYXE) - unit_length(b_BYXE)) ** 2 * weight_E.astype(jnp.float32)
    return jnp.mean(weighted_BYXE.sum(axis=-1), axis=(1, 2))


def _check_layers(features, linear_params):
    channels = [feature.shape[-1] for feature in features]
    shapes = [tuple(weight.shape) for weight in linear_params]
    if shapes != [(channel,) for channel in channels]:
        raise ValueError(f"features have channels {channels}, linear weights have shapes {shapes}")
