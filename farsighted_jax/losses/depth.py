"""Gradient-aware log depth loss (eq. 5), and the alignment that relative depth needs before it."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from farsighted_jax.losses.masked import masked_sum, safe_ratio

# See `aligned`. The floor is of the variance of a prediction, whose units are deviations of depth.
LEAST_CORRELATION, FLOOR = 0.1, 1e-6


def pair_masks(valid_BtHW1):
    """Pixels whose right, and whose lower, neighbour is valid too.

    Args:
      valid_BtHW1: bool[B, t, H, W, 1].

    Returns:
      bool[B, t, H, W-1, 1] and bool[B, t, H-1, W, 1].
    """
    along_x = valid_BtHW1[..., :, :-1, :] & valid_BtHW1[..., :, 1:, :]
    along_y = valid_BtHW1[..., :-1, :, :] & valid_BtHW1[..., 1:, :, :]
    return along_x, along_y


def gradient_aware_log_loss(predicted_BtHW1, target_BtHW1, valid_BtHW1, rgb_BtHWC, count_x, count_y):
    """ln(1 + |d - d*|), weighted down where the target image has an edge.

    The x term counts each pixel with its right neighbour and weighs it with
    exp(-|grad_x I|), the y term likewise downwards; |grad I| is the mean over
    channels of the absolute difference. Only pairs that are both valid count.

    Args:
      predicted_BtHW1: float[B, t, H, W, 1] normalised log depth.
      target_BtHW1: float[B, t, H, W, 1] the same of the target frame.
      valid_BtHW1: bool[B, t, H, W, 1] measured pixels of frames that exist.
      rgb_BtHWC: float[B, t, H, W, C] target image I within [0, 1].
      count_x: number of valid x pairs in the whole step batch.
      count_y: number of valid y pairs.

    Returns:
      float32 scalar, mean of the x term plus mean of the y term.
    """
    valid_x, valid_y = pair_masks(valid_BtHW1)
    # A hole may hold NaN, which a mask behind the logarithm would let into the gradient.
    target_BtHW1 = jnp.where(valid_BtHW1, target_BtHW1, 0.0).astype(jnp.float32)
    error = jnp.log1p(jnp.abs(predicted_BtHW1.astype(jnp.float32) - target_BtHW1))
    rgb = rgb_BtHWC.astype(jnp.float32)
    edge_x = jnp.mean(jnp.abs(rgb[..., :, 1:, :] - rgb[..., :, :-1, :]), axis=-1, keepdims=True)
    edge_y = jnp.mean(jnp.abs(rgb[..., 1:, :, :] - rgb[..., :-1, :, :]), axis=-1, keepdims=True)
    term_x = masked_sum(jnp.exp(-edge_x) * error[..., :, :-1, :], valid_x)
    term_y = masked_sum(jnp.exp(-edge_y) * error[..., :-1, :, :], valid_y)
    return safe_ratio(term_x, count_x) + safe_ratio(term_y, count_y)


def aligned(predicted_BtHW1, target_BtHW1):
    """Prediction of relative depth, scaled and shifted to its target frame by frame.

    s * d + b of least squares, in closed form, with one bound: s is at least
    what a correlation of `LEAST_CORRELATION` gives. So a prediction that has near
    and far the wrong way round is not turned over, and one that has nothing to do
    with the target still gets a gradient. Differentiable throughout: scale and
    shift of the prediction change nothing (up to `FLOOR`), so its gradient has no
    part along them.

    Args:
      predicted_BtHW1: float[B, t, H, W, 1] depth d in any units.
      target_BtHW1: float[B, t, H, W, 1] relative depth.

    Returns:
      float32[B, t, H, W, 1]; where the target is flat, that value everywhere.
    """
    axes = (2, 3, 4)
    predicted, target = predicted_BtHW1.astype(jnp.float32), target_BtHW1.astype(jnp.float32)
    mean_Bt = jnp.mean(target, axes, keepdims=True)
    predicted, target = predicted - jnp.mean(predicted, axes, keepdims=True), target - mean_Bt
    # A constant prediction has no scale; the floor keeps its gradient finite.
    unit = predicted * jax.lax.rsqrt(jnp.mean(predicted**2, axes, keepdims=True) + FLOOR)
    slope_Bt = jnp.mean(unit * target, axes, keepdims=True)
    least_Bt = LEAST_CORRELATION * jnp.sqrt(jnp.mean(target**2, axes, keepdims=True))
    return mean_Bt + jnp.maximum(slope_Bt, least_Bt) * unit
