"""A small trainable image encoder, for runs without pretrained weights."""

from __future__ import annotations

import math

import flax.linen as nn
import jax.numpy as jnp

from farsighted_jax.layers.patches import grid_size


class PatchEncoder(nn.Module):
    """Overlapping convolutions halve the image until one cell is one patch.

    The overlap is what makes motion visible to attention between patches: cut
    into separate patches, the same clips need several times the training. A
    patch size of 2^n * m has n halvings in front of one m x m cut.

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
        *lead, H, W, C = rgb_BTHWC.shape
        rows, columns = grid_size(H, W, self.patch)
        halvings = int(math.log2(self.patch & -self.patch))
        x = (rgb_BTHWC.astype(self.dtype) - 0.5).reshape(-1, H, W, C)
        for level in range(halvings):
            width = max(16, self.width * 4**level // 4**halvings)
            conv = nn.Conv(width, (4, 4), strides=(2, 2), dtype=self.dtype, name=f"halve_{level}")
            x = nn.gelu(conv(x))
        rest = self.patch >> halvings
        x = nn.Conv(self.width, (rest, rest), strides=(rest, rest), padding="VALID", dtype=self.dtype, name="embed")(x)
        return x.reshape(*lead, rows * columns, self.width)
