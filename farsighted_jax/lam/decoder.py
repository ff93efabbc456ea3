"""Spatial decoder of Farsighted-LAM: frame 0 and the codes of a transition -> frame k and its depth."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from farsighted_jax.encoders.patch import FRAME_ENCODERS
from farsighted_jax.lam.encoder import TIME_UNIT_S
from farsighted_jax.layers.patches import grid_size, unpatchify
from farsighted_jax.layers.positions import sinusoid, sinusoid_2d
from farsighted_jax.layers.remat import NONE
from farsighted_jax.layers.space_time import EPSILON, SpaceTimeTransformer
from farsighted_jax.layers.transport import splatted

HEADS = ("pixels", "layers")

# Log weight of a pixel of full chroma in the layer of its hue, of any pixel in the layers but the
# first, and the pace at which the decoder departs from them.
HUE_WEIGHT, LIGHT, LEARNED_SCALE = 12.0, -3.0, 0.1

# Deviation of the first weights from a code of length 1 to the displacement of its layer, and how
# many patches a weight of 1 moves it by. Training begins near "copy frame 0", and the weights grow
# fast enough to reach the motion they are to follow.
LINEAR_START, LINEAR_GAIN = 0.03, 3.0


def hue_layers(rgb_BHWC, num_layers: int):
    """Prior for which layer a pixel belongs to: gray and pale ones to the first, the others by hue.

    Layers must start out different and stay so for a while. Where all begin
    with the same share of every pixel, or may merge before the codes say
    anything, all of them learn the common motion of the image and none finds
    what moves by itself.

    Args:
      rgb_BHWC: float[B, H, W, C] within [0, 1].
      num_layers: Z.

    Returns:
      float32[B, H, W, Z] log weights.
    """
    C, Z = rgb_BHWC.shape[-1], num_layers
    hue_Z = 2 * jnp.pi * (jnp.arange(Z) - 1) / max(Z - 1, 1)
    channel_C = 2 * jnp.pi * jnp.arange(C) / C
    direction_CZ = (2 / C) ** 0.5 * jnp.cos(hue_Z - channel_C[:, None])
    chroma_BHWZ = (rgb_BHWC.astype(jnp.float32) - 0.5) @ direction_CZ
    return (LIGHT + HUE_WEIGHT * chroma_BHWZ).at[..., 0].set(0.0)


class SpatialDecoder(nn.Module):
    """Predicts each frame k separately from frame 0 and the codes of transition k (eq. 3).

    It sees no target, no frame in between and no depth.

    Attributes:
      width: D.
      depth: number of blocks.
      num_heads: A.
      patch: pixels a patch.
      head: "pixels" writes rgb and depth directly, as the paper does. "layers"
        lets every slot move a soft layer of frame 0 (and of the depth estimated
        for it) by one displacement and paints what frame 0 does not show; sharp
        after a fraction of the training, and made for motion that is rigid in
        the image.
      unroll: see `SpaceTimeTransformer`.
      dtype: of the computation; the images are float32.
      frame_encoder: key of `FRAME_ENCODERS`, how frame 0 becomes tokens.
      token_width: E of the frozen tokens of frame k that are predicted too; 0 for none.
      remat: see `SpaceTimeTransformer`.
    """

    width: int
    depth: int
    num_heads: int
    patch: int
    head: str = "pixels"
    unroll: int = 1
    dtype: jnp.dtype = jnp.float32
    frame_encoder: str = "patch"
    token_width: int = 0
    remat: str = NONE

    @nn.compact
    def __call__(self, rgb_BHWC, quantized_BtZU, time_s_Bt):
        """Decodes every transition of a clip in one pass.

        Args:
          rgb_BHWC: float[B, H, W, C] frame 0 within [0, 1].
          quantized_BtZU: float[B, t, Z, U] codes of the transitions 0 -> k.
          time_s_Bt: float32[B, t] seconds from frame 0 to frame k.

        Returns:
          rgb_BtHWC: float32[B, t, H, W, C].
          depth_BtHW1: float32[B, t, H, W, 1] normalised log depth.
          token_BtNE: float32[B, t, N, E] layer-normalised frozen tokens, or None where `token_width` is 0.
        """
        B, t, Z, _ = quantized_BtZU.shape
        grid = grid_size(*rgb_BHWC.shape[1:3], self.patch)
        embed = FRAME_ENCODERS[self.frame_encoder](self.width, self.patch, self.dtype, name="frame")
        frame_B1ND = embed(rgb_BHWC[:, None])
        frame_B1ND += sinusoid_2d(*grid, self.width).astype(self.dtype)
        slot_ZD = self.param("slots", nn.initializers.normal(0.02), (Z, self.width))
        code_BtZD = nn.Dense(self.width, dtype=self.dtype, name="from_code")(quantized_BtZU) + slot_ZD
        step_BtD = sinusoid(time_s_Bt / TIME_UNIT_S, self.width).astype(self.dtype)
        step_BtD = nn.Dense(self.width, dtype=self.dtype, name="step")(step_BtD)
        x_BtSD = jnp.concatenate(
            [code_BtZD, jnp.broadcast_to(frame_B1ND, (B, t, *frame_B1ND.shape[2:]))], axis=2
        )
        x_BtSD = x_BtSD + step_BtD[:, :, None]
        stack = SpaceTimeTransformer(
            self.depth,
            self.num_heads,
            temporal=False,
            unroll=self.unroll,
            dtype=self.dtype,
            remat=self.remat,
            name="transformer",
        )
        x_BtSD = stack(x_BtSD.astype(self.dtype))
        x_BtSD = nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name="output_norm")(x_BtSD)
        code_BtZD, x_BtND = x_BtSD[:, :, :Z], x_BtSD[:, :, Z:]
        token_BtNE = None
        if self.token_width:
            token_BtNE = nn.Dense(self.token_width, dtype=jnp.float32, name="token_head")(x_BtND)
        if self.head == "layers":
            return *self._moved_layers(rgb_BHWC, quantized_BtZU, code_BtZD, x_BtND, grid), token_BtNE
        rgb_BtHWC = self._image(x_BtND, rgb_BHWC.shape[-1], grid, "rgb_head")
        return rgb_BtHWC, self._image(x_BtND, 1, grid, "depth_head"), token_BtNE

    def _image(self, x_BtND, channels, grid, name):
        """One linear head: float[B, t, N, D] -> float32[B, t, H, W, channels]."""
        patches = nn.Dense(self.patch**2 * channels, dtype=jnp.float32, name=name)(x_BtND)
        return unpatchify(patches, *grid, self.patch)

    def _linear_shift(self, quantized_BtZU):
        """Displacement as a linear map of each slot's own code, float[B, t, Z, 2] pixels.

        The way through the blocks is shared by all slots and learned much more slowly.
        """
        Z, U = quantized_BtZU.shape[2:]
        start = nn.initializers.normal(LINEAR_START * U**-0.5)
        shift_ZU2 = self.param("shift_slots", start, (Z, U, 2))
        patches = jnp.einsum("BtZU,ZUC->BtZC", quantized_BtZU.astype(jnp.float32), shift_ZU2)
        return LINEAR_GAIN * self.patch * patches

    def _moved_layers(self, rgb_BHWC, quantized_BtZU, code_BtZD, x_BtND, grid):
        """Each slot moves its own layer of frame 0, rgb and estimated depth alike."""
        Z, C = code_BtZD.shape[2], rgb_BHWC.shape[-1]
        # Near zero at the start: training begins at "copy frame 0".
        still = nn.initializers.normal(0.1 * self.width**-0.5)
        shift = nn.Dense(2, kernel_init=still, dtype=jnp.float32, name="shift_head")
        shift_BtZ2 = self.patch * shift(code_BtZD) + self._linear_shift(quantized_BtZU)
        # A layer that has left the frame gets no gradient and would never return.
        reach = min(rgb_BHWC.shape[1:3]) / 2
        shift_BtZ2 = reach * jnp.tanh(shift_BtZ2 / reach)
        learned_BtHWZ = self._image(x_BtND, Z, grid, "layer_head")
        layer_BtHWZ = hue_layers(rgb_BHWC, Z)[:, None] + LEARNED_SCALE * learned_BtHWZ
        paint_BtHWC = self._image(x_BtND, C + 1, grid, "rgb_head")
        depth_BtHW2 = self._image(x_BtND, 2, grid, "depth_head")
        source_BtHWC = jnp.broadcast_to(rgb_BHWC[:, None], paint_BtHWC.shape[:-1] + (C,))
        carried = jnp.concatenate([source_BtHWC, depth_BtHW2[..., :1]], axis=-1)
        paint = jnp.concatenate([jax.nn.sigmoid(paint_BtHWC[..., :C]), depth_BtHW2[..., 1:]], axis=-1)
        moved_BtHCW = splatted(
            carried.swapaxes(-1, -2),
            jnp.moveaxis(layer_BtHWZ, -1, 2),
            shift_BtZ2,
            paint.swapaxes(-1, -2),
            paint_BtHWC[..., C] - 3.0,
        )
        moved_BtHWC = moved_BtHCW.swapaxes(-1, -2)
        return moved_BtHWC[..., :C], moved_BtHWC[..., C:]
