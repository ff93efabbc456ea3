"""Geometry-aware tokens: depth patches fused into appearance tokens."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from farsighted_jax.encoders.patch import PatchEncoder

# "none": the tokens of the image encoder as they are. "fuse": with depth.
DEPTH_INPUTS = ("none", "fuse")


def relative_clips(valid_BTHW1):
    """Which clips have no measured depth in frame 0, bool[B]: nothing to align an estimate to.

    Frame 0 alone decides, for a clip is of one kind, metric or relative, and a
    later frame must not change what the encoder sees of an earlier one.
    """
    return ~valid_BTHW1[:, 0].any(axis=(1, 2, 3))


def filled_depth(depth_BTHW1, valid_BTHW1, estimated_BTHW1=None):
    """Sensor depth where it is valid, estimated depth elsewhere.

    Args:
      depth_BTHW1: float[B, T, H, W, 1] normalised log depth of the sensor.
      valid_BTHW1: bool[B, T, H, W, 1] where it was measured.
      estimated_BTHW1: float[B, T, H, W, 1] an estimate in the same normalisation, or None.

    Returns:
      depth_BTHW1: float[B, T, H, W, 1]; 0, the mean of the dataset, where nothing is known.
      known_BTHW1: bool[B, T, H, W, 1] where it is known.
    """
    if estimated_BTHW1 is None:
        return jnp.where(valid_BTHW1, depth_BTHW1, 0.0), valid_BTHW1
    return jnp.where(valid_BTHW1, depth_BTHW1, estimated_BTHW1), jnp.ones_like(valid_BTHW1)


class DepthFusion(nn.Module):
    """Adds embedded depth patches to the tokens of an image encoder, whichever that is.

    The gate, one number a channel, starts at zero: fusion starts as the identity
    and cannot disturb a pretrained encoder before it has something to say.

    What is embedded are two channels a pixel: depth, and which depth that is: 1
    metric (normalised log depth), 0 none, -1 relative (see
    `pseudo_depth.relative_depth`). In both kinds what is farther away is larger.

    Attributes:
      patch: pixels a patch; the grid of the tokens must be the image's grid of them.
      dtype: of the computation; parameters are float32.
    """

    patch: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, tokens_BTNE, depth_BTHW1, valid_BTHW1, estimated_BTHW1=None, relative_B=None):
        """Fuses the depth of a clip into its tokens.

        Args:
          tokens_BTNE: float[B, T, N, E] appearance tokens, patches row by row.
          depth_BTHW1: see `filled_depth`.
          valid_BTHW1: see `filled_depth`.
          estimated_BTHW1: see `filled_depth`.
          relative_B: bool[B] clips whose depth is relative; None: all are metric.

        Returns:
          float[B, T, N, E] in the dtype of the computation.

        Raises:
          ValueError: depth and tokens have another number of patches.
        """
        E = tokens_BTNE.shape[-1]
        depth_BTHW1, known_BTHW1 = filled_depth(depth_BTHW1, valid_BTHW1, estimated_BTHW1)
        # Where nothing is known depth is 0, as it is at the dataset's mean; the second channel tells apart.
        kind_BTHW1 = known_BTHW1.astype(depth_BTHW1.dtype)
        if relative_B is not None:
            kind_BTHW1 = jnp.where(relative_B[:, None, None, None, None], -kind_BTHW1, kind_BTHW1)
        pixels_BTHW2 = jnp.concatenate([depth_BTHW1, kind_BTHW1], axis=-1)
        depth_BTNE = PatchEncoder(E, self.patch, self.dtype, name="depth")(pixels_BTHW2)
        if depth_BTNE.shape[:-1] != tokens_BTNE.shape[:-1]:
            raise ValueError(
                f"depth of shape {list(depth_BTHW1.shape)} has {depth_BTNE.shape[-2]} patches of "
                f"{self.patch} px a frame, the image tokens are of shape {list(tokens_BTNE.shape)}"
            )
        gate_E = self.param("gate", nn.initializers.zeros_init(), (E,))
        return tokens_BTNE.astype(self.dtype) + gate_E.astype(self.dtype) * depth_BTNE
