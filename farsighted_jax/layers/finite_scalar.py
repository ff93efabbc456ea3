"""Finite scalar quantisation (arXiv 2309.15505) as pure functions: every channel is rounded on its own.

There is no codebook to learn: the codes are the points of a fixed grid with
L_u values along channel u, V = L_1 * ... * L_U points. The values of a channel
are spaced evenly from -1 to 1, where the paper shifts even numbers of values so
that 0 is one of them; thereby two values a channel are usable too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

# How far the bounded value may go beyond the outermost grid value, so that this one is reached
# with a gradient left.
MARGIN = 1e-3


def num_codes(levels: Sequence[int]) -> int:
    """V, the number of points of the grid."""
    return math.prod(levels)


def bounded(z_BZU, levels: Sequence[int]):
    """Squashes each channel to the range of its grid values.

    Args:
      z_BZU: float[..., U] encoder output.
      levels: U numbers of grid values a channel, each >= 2.

    Returns:
      float32[..., U] within [-1, 1], but for `MARGIN`.

    Raises:
      ValueError: another number of channels than of levels.
    """
    if z_BZU.shape[-1] != len(levels):
        raise ValueError(f"{z_BZU.shape[-1]} channels, but levels {tuple(levels)} for {len(levels)}")
    return (1 + MARGIN) * jnp.tanh(z_BZU.astype(jnp.float32))


def nearest_code(bounded_BZU, levels: Sequence[int]):
    """Finds the closest grid point for every latent slot.

    Args:
      bounded_BZU: float32[..., U] as `bounded` returns it.
      levels: see `bounded`.

    Returns:
      code_BZ: int32[...] index of the point, the first channel varying fastest.
      quantized_BZU: float32[..., U] the point, within [-1, 1]; no gradient flows.
    """
    last_U = np.asarray(levels, np.int32) - 1
    digit_BZU = jnp.round((jax.lax.stop_gradient(bounded_BZU) + 1) / 2 * last_U).astype(jnp.int32)
    digit_BZU = jnp.clip(digit_BZU, 0, last_U)
    code_BZ = jnp.sum(digit_BZU * _place_values(levels), axis=-1, dtype=jnp.int32)
    return code_BZ, _points(digit_BZU, levels)


def grid(levels: Sequence[int]):
    """All points in the order of their code: what stands in place of a codebook, float32[V, U]."""
    code_V1 = jnp.arange(num_codes(levels), dtype=jnp.int32)[:, None]
    return _points(code_V1 // _place_values(levels) % np.asarray(levels, np.int32), levels)


def _points(digit_BZU, levels):
    return 2 * digit_BZU.astype(jnp.float32) / (np.asarray(levels, np.float32) - 1) - 1


def _place_values(levels):
    """What a digit of each channel is worth in the code, int32[U]."""
    return np.cumprod([1, *levels[:-1]]).astype(np.int32)
