"""A small trainable image encoder, for runs without pretrained weights."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from farsighted_jax.layers.patches import grid_size, patchify


class PatchEncoder(nn.Module):
    """Cells of half a patch, each mixed with its eight neighbours, four merged into a token.

    The overlap makes motion visible to attention between patches: prototypes
    without it learned displacements far more slowly.

    Attributes:
      width: E, channels of a token.
      patch: pixels a patch, even.
      dtype: of the computation.
    """

    width: int
    patch: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, rgb_BTHWC):
        """Maps float[B, T, H, W, C] within [0, 1] to tokens float[B, T, N, E]."""
        *lead, H, W, _ = rgb_BTHWC.shape
        cell, half = self.patch // 2, self.width // 2
        rows, columns = grid_size(H, W, cell)
        x = patchify(rgb_BTHWC.astype(self.dtype) - 0.5, cell)
        x = nn.gelu(nn.Dense(half, dtype=self.dtype, name="cell")(x))
        x = nn.Conv(half, (3, 3), dtype=self.dtype, name="mix")(x.reshape(-1, rows, columns, half))
        x = nn.gelu(x).reshape(*lead, rows, columns, half)
        return nn.Dense(self.width, dtype=self.dtype, name="merge")(patchify(x, 2))


class LinearPatches(nn.Module):
    """One linear map a patch: what the published decoder does with frame 0.

    Attributes:
      width: E, channels of a token.
      patch: pixels a patch.
      dtype: of the computation.
    """

    width: int
    patch: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, rgb_BTHWC):
        """Maps float[B, T, H, W, C] within [0, 1] to tokens float[B, T, N, E]."""
        patches_BTNF = patchify(rgb_BTHWC.astype(self.dtype) - 0.5, self.patch)
        return nn.Dense(self.width, dtype=self.dtype, name="embed")(patches_BTNF)


# "patch" lets neighbouring patches mix, "linear" has far fewer parameters.
FRAME_ENCODERS = {"patch": PatchEncoder, "linear": LinearPatches}
