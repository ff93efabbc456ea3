"""Moves whole image layers by predicted displacements, as matrix products."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def translation_matrix(size: int, shift_B):
    """Linear interpolation along one axis as a matrix; the border is repeated.

    Args:
      size: pixels along the axis.
      shift_B: float[...] displacement in pixels, positive towards higher indices.

    Returns:
      float32[..., size, size]; row i holds the weights of the source pixels that
      land on pixel i. A zero shift gives the identity.
    """
    pixel = jnp.arange(size, dtype=jnp.float32)
    source = jnp.clip(pixel - shift_B[..., None].astype(jnp.float32), 0, size - 1)
    return jnp.maximum(1 - jnp.abs(source[..., None] - pixel), 0)


def translated(image_BHCW, shift_B2):
    """Translates every image by its own sub-pixel displacement.

    Two matrix products instead of gathers: differentiable in image and shift,
    and what an accelerator does best. Channels stand between rows and columns
    so that both products have long contiguous sides.

    Args:
      image_BHCW: float[..., H, C, W].
      shift_B2: float[..., 2] pixels, x (right) before y (down).

    Returns:
      float32[..., H, C, W].
    """
    *lead, H, C, W = image_BHCW.shape
    along_x = translation_matrix(W, shift_B2[..., 0])
    along_y = translation_matrix(H, shift_B2[..., 1])
    moved = jnp.einsum("...rw,...jw->...rj", image_BHCW.reshape(*lead, H * C, W), along_x)
    moved = jnp.einsum("...ih,...hr->...ir", along_y, moved.reshape(*lead, H, C * W))
    return moved.reshape(*lead, H, C, W)


def splatted(values_HCW, log_weight_ZHW, shift_Z2, paint_HCW, paint_log_weight_HW):
    """Moves weighted layers of one image and blends them; softmax splatting with one motion a layer.

    Where layers meet the heavier one covers the lighter; where all have moved
    away the paint shows.

    Args:
      values_HCW: float[..., H, C, W] what every layer carries.
      log_weight_ZHW: float[..., Z, H, W] log weight of each source pixel in each layer.
      shift_Z2: float[..., Z, 2] displacement of each layer, pixels.
      paint_HCW: float[..., H, C, W] what fills the holes.
      paint_log_weight_HW: float[..., H, W] its log weight.

    Returns:
      float32[..., H, C, W].
    """
    log_weight_ZHW = _bounded(log_weight_ZHW)
    # A pixel belongs to the layers that claim it, else a copy of it stays behind in the others.
    share_ZHW = jax.nn.softmax(log_weight_ZHW, axis=-3)
    weight_ZH1W = (share_ZHW * jnp.exp(log_weight_ZHW))[..., None, :]
    carried = jnp.concatenate([weight_ZH1W * values_HCW[..., None, :, :, :], weight_ZH1W], axis=-2)
    moved_HCW = translated(carried, shift_Z2).sum(axis=-4)
    paint_weight_H1W = jnp.exp(_bounded(paint_log_weight_HW))[..., None, :]
    total_H1W = moved_HCW[..., -1:, :] + paint_weight_H1W
    return (moved_HCW[..., :-1, :] + paint_weight_H1W * paint_HCW) / total_H1W


def _bounded(log_weight):
    """Keeps exp finite and every weight positive, smoothly."""
    return 6.0 * jnp.tanh(log_weight.astype(jnp.float32) / 6.0)
