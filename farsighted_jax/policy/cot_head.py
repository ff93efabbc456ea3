"""Visual chain of thought: hidden states of V -> rgb and depth of the next keyframe (eq. 7, 8)."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from farsighted_jax.layers.patches import unpatchify
from farsighted_jax.policy.errors import PolicyError

# Deviation of the first change of a pixel: training begins near "copy the present frame".
STILL = 0.01


class VisionHead(nn.Module):
    """One linear map a patch for each of rgb, depth and frozen tokens; all in float32.

    Attributes:
      grid: rows and columns (Y, X) of the visual prediction queries, Y * X = N.
      patch: pixels a patch.
      residual: whether rgb is predicted as a change of the present frame.
      token_width: E of the frozen tokens that are predicted too; 0 for none.
    """

    grid: tuple[int, int]
    patch: int
    residual: bool = False
    token_width: int = 0

    @nn.compact
    def __call__(self, hidden_BND, frame_BHWC=None):
        """Predicts the next keyframe of the primary camera.

        Args:
          hidden_BND: float[B, N, D] of the visual prediction queries.
          frame_BHWC: float[B, H, W, C] present frame of the primary camera, read with `residual`.

        Returns:
          rgb_BHWC: float32[B, H, W, 3], meant for [0, 1] and not clipped to it.
          depth_BHW1: float32[B, H, W, 1] normalised log depth.
          token_BNE: float32[B, N, E] layer-normalised frozen tokens, or None.

        Raises:
          PolicyError: a present frame of another size than the prediction.
        """
        still = nn.initializers.normal(STILL * hidden_BND.shape[-1] ** -0.5)
        start = still if self.residual else nn.initializers.lecun_normal()
        rgb_BHWC = self._image(hidden_BND, 3, "rgb", start)
        if self.residual:
            if frame_BHWC is None or frame_BHWC.shape != rgb_BHWC.shape:
                found = None if frame_BHWC is None else list(frame_BHWC.shape)
                raise PolicyError(f"present frame: expected {list(rgb_BHWC.shape)}, found {found}")
            rgb_BHWC = rgb_BHWC + frame_BHWC
        depth_BHW1 = self._image(hidden_BND, 1, "depth", nn.initializers.lecun_normal())
        token_BNE = None
        if self.token_width:
            token_BNE = nn.Dense(self.token_width, dtype=jnp.float32, name="token")(hidden_BND)
        return rgb_BHWC, depth_BHW1, token_BNE

    def _image(self, hidden_BND, channels, name, start):
        size = self.patch**2 * channels
        patches_BNF = nn.Dense(size, kernel_init=start, dtype=jnp.float32, name=name)(hidden_BND)
        return unpatchify(patches_BNF, *self.grid, self.patch)
