"""Fixed sinusoidal positions: over an index, over a grid, over real values."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np


def sinusoid(value, width: int, max_period: float = 10_000.0):
    """Sine on even and cosine on odd channels, as in "Attention is all you need".

    Args:
      value: float[...] positions, in units of which 1 is the finest step that matters.
      width: number of channels, even.
      max_period: longest period over 2 pi, in the same units.

    Returns:
      float32[..., width].

    Raises:
      ValueError: an odd width.
    """
    if width % 2:
        raise ValueError(f"a sinusoidal position needs an even width, found {width}")
    rate = jnp.asarray(max_period ** (-np.arange(0, width, 2) / width), jnp.float32)
    angle = jnp.asarray(value, jnp.float32)[..., None] * rate
    return jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1).reshape(*angle.shape[:-1], width)


def sinusoid_1d(num: int, width: int):
    """Positions 0..num-1; float32[num, width]."""
    return sinusoid(jnp.arange(num), width)


# A grid has tens of rows: with the period of text most channels would be constant over it.
GRID_PERIOD = 100.0


def sinusoid_2d(rows: int, columns: int, width: int):
    """Positions on a grid, row by row: half the channels for the row, half for the column.

    Returns:
      float32[rows * columns, width].

    Raises:
      ValueError: a width that 4 does not divide.
    """
    if width % 4:
        raise ValueError(f"a 2-D sinusoidal position needs a width divisible by 4, found {width}")
    row_YD, column_XD = (sinusoid(jnp.arange(num), width // 2, GRID_PERIOD) for num in (rows, columns))
    row_YXD = jnp.broadcast_to(row_YD[:, None], (rows, columns, width // 2))
    column_YXD = jnp.broadcast_to(column_XD[None], (rows, columns, width // 2))
    return jnp.concatenate([row_YXD, column_YXD], axis=-1).reshape(rows * columns, width)
