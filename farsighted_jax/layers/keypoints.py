"""Keypoints: where in a frame the features of interest lie."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

# Factor of the logits: at the start a point already follows what stands out, a saturated colour say,
# instead of the middle of the frame.
SHARPNESS = 4.0

# Of positions where they are read: they span [-1, 1], and what moves does so by a tenth of it.
KEYPOINT_SCALE = 6.0

# Deviation of the first weights of the offsets within a patch; at the start a feature is in its middle.
OFFSET_SCALE = 0.01


class SpatialSoftmax(nn.Module):
    """Mean position of each of G features under a softmax over the patches (arXiv 1504.00702, eq. 4).

    A transformer must first learn to turn "what" into "where"; here position is
    given, so that motion is linear in the result from the first step on. What
    lies between the centres of patches is read from their tokens.

    Attributes:
      num_keypoints: G.
      dtype: of the logits; the softmax and the positions are float32.
    """

    num_keypoints: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, tokens_BTNE, grid: tuple[int, int]):
        """Finds the keypoints of every frame, each frame by itself.

        Args:
          tokens_BTNE: float[B, T, N, E] image tokens, patches row by row.
          grid: patch rows and columns (Y, X), Y * X = N.

        Returns:
          float32[B, T, G, 2] x (right) before y (down), the frame spans [-1, 1].
        """
        B, T, N, _ = tokens_BTNE.shape
        G = self.num_keypoints
        normed_BTNE = nn.LayerNorm(dtype=self.dtype, name="norm")(tokens_BTNE)
        logits_BTNG = nn.Dense(G, dtype=self.dtype, name="feature")(normed_BTNE)
        weight_BTNG = jax.nn.softmax(SHARPNESS * logits_BTNG.astype(jnp.float32), axis=2)
        center = nn.initializers.normal(OFFSET_SCALE)
        offset = nn.Dense(2 * G, kernel_init=center, dtype=self.dtype, name="offset")(normed_BTNE)
        offset_BTNG2 = jnp.tanh(offset.astype(jnp.float32)).reshape(B, T, N, G, 2)
        point_BTG2 = jnp.einsum("BTNG,NC->BTGC", weight_BTNG, patch_centers(*grid))
        return point_BTG2 + jnp.einsum("BTNG,BTNGC->BTGC", weight_BTNG, offset_BTNG2) * half_patch(*grid)


def patch_centers(rows: int, columns: int):
    """Centres of the patches of a grid, row by row: float32[rows * columns, 2], x before y, in [-1, 1]."""
    y_Y, x_X = ((2 * jnp.arange(num, dtype=jnp.float32) + 1) / num - 1 for num in (rows, columns))
    return jnp.stack(jnp.meshgrid(x_X, y_Y), axis=-1).reshape(rows * columns, 2)


def half_patch(rows: int, columns: int):
    """Half the width and height of a patch of a grid where the frame spans [-1, 1], float32[2]."""
    return jnp.array([1 / columns, 1 / rows], jnp.float32)
