"""From the inverse depth of a monocular network to metres (eq. 9), or to depth in units of its clip."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

ITERATIONS = 10
# Residuals up to this many standard deviations count fully (Huber's constant for 95 % efficiency).
HUBER = 1.345
# Median of |x| of a normal distribution times this is its standard deviation.
MEDIAN_TO_DEVIATION = 1.4826
# Later frames may hold what lies far outside of frame 0. Mean deviations that relative depth is clipped to.
LIMIT = 10.0


class AlignedDepth(NamedTuple):
    """Result of `aligned_depth`.

    Attributes:
      depth_BHW1: float32[..., H, W, 1] metres.
      scale_B: float32[...] s.
      shift_B: float32[...] b, 1/m.
      fitted_B: bool[...] False where there was nothing to fit to.
    """

    depth_BHW1: jax.Array
    scale_B: jax.Array
    shift_B: jax.Array
    fitted_B: jax.Array


def aligned_depth(inverse_BHW1, depth_m_BHW1, valid_BHW1, max_depth_m: float) -> AlignedDepth:
    """Fits s * p + b to 1 / d on the valid pixels of each image and inverts it everywhere.

    Least squares in closed form, repeated with Huber weights, so that wrong
    measurements (sparse points that were matched wrongly, borders of a sensor)
    do not bend the fit. Everything in float32.

    Args:
      inverse_BHW1: float[..., H, W, 1] inverse depth p up to scale and shift; any leading axes.
      depth_m_BHW1: float[..., H, W, 1] metres: sensor depth, or sparse points drawn into an image.
      valid_BHW1: bool[..., H, W, 1] where it was measured; other pixels, NaN included, have no influence.
      max_depth_m: depth is clipped to it; an inverse depth of zero or less is that far away.

    Returns:
      The depth and the fit. An image with fewer than two valid pixels, or whose
      p is the same on all of them, is not fitted: s is 0, b the mean of 1 / d
      over its valid pixels, and without any of these the depth is `max_depth_m`.

    Raises:
      ValueError: a maximal depth that is not positive.
    """
    if not max_depth_m > 0:
        raise ValueError(f"max_depth_m is {max_depth_m}, expected a positive number of metres")
    lead = inverse_BHW1.shape[:-3]
    p_BN, d_BN, valid_BN = (x.reshape(*lead, -1) for x in (inverse_BHW1, depth_m_BHW1, valid_BHW1))
    p_BN, d_BN = p_BN.astype(jnp.float32), d_BN.astype(jnp.float32)
    valid_BN = valid_BN & (d_BN > 0) & jnp.isfinite(p_BN)
    p_BN = jnp.where(valid_BN, p_BN, 0.0)
    target_BN = jnp.where(valid_BN, 1.0 / jnp.where(valid_BN, d_BN, 1.0), 0.0)

    def refit(_, fit):
        residual_BN = jnp.abs(fit[0][..., None] * p_BN + fit[1][..., None] - target_BN)
        spread_B = MEDIAN_TO_DEVIATION * _masked_median(residual_BN, valid_BN)
        limit_BN = HUBER * jnp.maximum(spread_B, 1e-9)[..., None]
        return _line(p_BN, target_BN, valid_BN * jnp.minimum(1.0, limit_BN / jnp.maximum(residual_BN, 1e-12)))

    scale_B, shift_B = jax.lax.fori_loop(
        0, ITERATIONS, refit, _line(p_BN, target_BN, valid_BN.astype(jnp.float32))
    )
    inverse_m = scale_B[..., None, None, None] * inverse_BHW1.astype(jnp.float32)
    inverse_m = inverse_m + shift_B[..., None, None, None]
    depth_BHW1 = 1.0 / jnp.maximum(inverse_m, 1.0 / max_depth_m)
    return AlignedDepth(depth_BHW1, scale_B, shift_B, scale_B != 0)


def relative_depth(inverse_BTHW1):
    """Depth of a clip in units of its own: no metre, no constant of a dataset.

    Minus p, so that what is farther away is larger as in metric depth, centred
    by the median and divided by the mean absolute deviation from it. Both are
    those of frame 0 for all frames: what comes nearer changes its value, and no
    later frame changes what is seen of an earlier one. Scale and shift of p have
    no influence as long as the frames share them. Everything in float32.

    Args:
      inverse_BTHW1: float[B, T, H, W, 1] inverse depth p up to scale and shift.

    Returns:
      depth_BTHW1: float32[B, T, H, W, 1] within [-LIMIT, LIMIT]; 0 where nothing is known.
      known_BTHW1: bool[B, T, H, W, 1] False in clips in whose frame 0 p is everywhere the same.
    """
    p_BTHW1 = inverse_BTHW1.astype(jnp.float32)
    first_B1HW1 = p_BTHW1[:, :1]
    center_B1111 = jnp.median(first_B1HW1, axis=(1, 2, 3, 4), keepdims=True)
    spread_B1111 = jnp.mean(jnp.abs(first_B1HW1 - center_B1111), axis=(1, 2, 3, 4), keepdims=True)
    varies_B1111 = spread_B1111 > 1e-5 * (1e-5 + jnp.abs(center_B1111))
    depth_BTHW1 = (center_B1111 - p_BTHW1) / jnp.where(varies_B1111, spread_B1111, 1.0)
    depth_BTHW1 = jnp.where(varies_B1111, jnp.clip(depth_BTHW1, -LIMIT, LIMIT), 0.0)
    return depth_BTHW1, jnp.broadcast_to(varies_B1111, depth_BTHW1.shape)


def _line(p_BN, target_BN, weight_BN):
    """Weighted least squares line; slope 0 where p does not vary, all 0 without weight."""
    total_B1 = jnp.maximum(weight_BN.sum(-1, keepdims=True), 1e-12)
    p_mean_B1 = (weight_BN * p_BN).sum(-1, keepdims=True) / total_B1
    target_mean_B1 = (weight_BN * target_BN).sum(-1, keepdims=True) / total_B1
    p_BN = p_BN - p_mean_B1
    variance_B = (weight_BN * p_BN**2).sum(-1) / total_B1[..., 0]
    covariance_B = (weight_BN * p_BN * (target_BN - target_mean_B1)).sum(-1) / total_B1[..., 0]
    varies_B = variance_B > 1e-10 * (1e-10 + p_mean_B1[..., 0] ** 2)
    slope_B = jnp.where(varies_B, covariance_B / jnp.where(varies_B, variance_B, 1.0), 0.0)
    return slope_B, target_mean_B1[..., 0] - slope_B * p_mean_B1[..., 0]


def _masked_median(value_BN, valid_BN):
    """Lower median of the valid values, float[...]; 0 where there is none."""
    ordered_BN = jnp.sort(jnp.where(valid_BN, value_BN, jnp.inf), axis=-1)
    middle_B1 = jnp.maximum(valid_BN.sum(-1, keepdims=True) - 1, 0) // 2
    median_B = jnp.take_along_axis(ordered_BN, middle_B1, axis=-1)[..., 0]
    return jnp.where(jnp.isfinite(median_B), median_B, 0.0)
