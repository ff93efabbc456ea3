"""Temporal pyramid: short-term motion and long-term trend of a token, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

# Values that a branch sees: the present one and those one and two dilations ago, enough for a
# difference and for the change of it.
TAPS = 3


def check_dilations(dilations: Sequence[int], num_frames: int) -> None:
    """Refuses branches that would see nothing but the present frame.

    Raises:
      ValueError: a dilation that is not within 1..T-1, or one given twice; it is named.
    """
    for index, dilation in enumerate(dilations):
        if not 1 <= dilation < num_frames:
            raise ValueError(
                f"dilation {dilation} of the temporal pyramid {tuple(dilations)} sees only padding in "
                f"{num_frames} frames, expected within 1..{num_frames - 1}"
            )
        if dilation in dilations[:index]:
            raise ValueError(f"dilation {dilation} of the temporal pyramid {tuple(dilations)} is repeated")


class TemporalPyramid(nn.Module):
    """Parallel causal depthwise convolutions over time, one a dilation, summed and projected.

    The projection starts at zero, so that a block with a pyramid starts as the
    block without it.

    Attributes:
      dilations: G distances in frames, one a branch.
      dtype: of the computation; parameters are float32.
    """

    dilations: tuple[int, ...]
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BTSD):
        """Maps float[B, T, S, D] to the same shape, to be added; frame k sees frames <= k only.

        Raises:
          ValueError: see `check_dilations`.
        """
        T, D = x_BTSD.shape[1], x_BTSD.shape[-1]
        check_dilations(self.dilations, T)
        G = len(self.dilations)
        taps_G3D = self.param("taps", nn.initializers.normal((TAPS * G) ** -0.5), (G, TAPS, D))
        taps_G3D = taps_G3D.astype(self.dtype)
        x_BTSD = x_BTSD.astype(self.dtype)
        total_BTSD = jnp.zeros_like(x_BTSD)
        for branch, dilation in enumerate(self.dilations):
            for tap in range(TAPS):
                total_BTSD += taps_G3D[branch, tap] * delayed(x_BTSD, tap * dilation)
        zero = nn.initializers.zeros_init()
        return nn.Dense(D, kernel_init=zero, dtype=self.dtype, name="project")(total_BTSD)


def delayed(x_BTSD, num_frames: int):
    """Every frame takes the value of `num_frames` ago; zeros where there was none."""
    T = x_BTSD.shape[1]
    kept = max(T - num_frames, 0)
    return jnp.pad(x_BTSD[:, :kept], [(0, 0), (T - kept, 0), (0, 0), (0, 0)])
