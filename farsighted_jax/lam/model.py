"""Farsighted-LAM as a linen module: encode a clip, decode transitions. Frozen networks stay outside."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from farsighted_jax.encoders.geometry import DepthFusion
from farsighted_jax.encoders.patch import PatchEncoder
from farsighted_jax.lam.decoder import SpatialDecoder
from farsighted_jax.lam.encoder import SpaceTimeEncoder
from farsighted_jax.layers.patches import grid_size
from farsighted_jax.layers.remat import NONE

# Sizes of the trainable part (D, blocks, heads); "paper" is the published model.
VARIANTS = {
    "tiny": {"width": 96, "encoder_depth": 2, "decoder_depth": 2, "num_heads": 4},
    "small": {"width": 384, "encoder_depth": 6, "decoder_depth": 6, "num_heads": 6},
    "base": {"width": 768, "encoder_depth": 12, "decoder_depth": 12, "num_heads": 12},
    "paper": {"width": 768, "encoder_depth": 16, "decoder_depth": 16, "num_heads": 16},
    "large": {"width": 1024, "encoder_depth": 24, "decoder_depth": 16, "num_heads": 16},
}


class FarsightedLam(nn.Module):
    """Image encoder, space-time encoder and spatial decoder; the quantiser stands between them.

    Attributes:
      width: D.
      encoder_depth: space-time blocks.
      decoder_depth: decoder blocks.
      num_heads: A.
      num_slots: Z codes a transition.
      code_width: U.
      patch: pixels a patch.
      head: see `SpatialDecoder`.
      codebook_size: V where the codebook is a parameter (quantiser "gradient"), else 0.
      unroll: see `SpaceTimeTransformer`.
      dtype: of the computation.
      pyramid: see `SpaceTimeTransformer`; of the encoder.
      pyramid_every: see `SpaceTimeTransformer`.
      num_keypoints: see `SpaceTimeEncoder`.
      depth_input: "none", or "fuse": the encoder also reads the depth of the clip.
      token_width: E of the tokens of a frozen image encoder that `encode` is handed;
        0: the model trains an encoder of its own.
      frame_encoder: see `SpatialDecoder`.
      token_head: whether the decoder predicts the frozen tokens too.
      remat: key of `layers.remat.POLICIES`, of encoder and decoder.
    """

    width: int
    encoder_depth: int
    decoder_depth: int
    num_heads: int
    num_slots: int
    code_width: int
    patch: int
    head: str = "pixels"
    codebook_size: int = 0
    unroll: int = 1
    dtype: jnp.dtype = jnp.float32
    pyramid: tuple[int, ...] = ()
    pyramid_every: int = 4
    num_keypoints: int = 0
    depth_input: str = "none"
    token_width: int = 0
    frame_encoder: str = "patch"
    token_head: bool = False
    remat: str = NONE

    def setup(self):
        """Makes the parts; flax calls it."""
        if not self.token_width:
            self.image_encoder = PatchEncoder(self.width, self.patch, self.dtype)
        if self.depth_input == "fuse":
            self.depth_fusion = DepthFusion(self.patch, self.dtype)
        self.encoder = SpaceTimeEncoder(
            self.width,
            self.encoder_depth,
            self.num_heads,
            self.num_slots,
            self.code_width,
            self.num_keypoints,
            unroll=self.unroll,
            dtype=self.dtype,
            pyramid=self.pyramid,
            pyramid_every=self.pyramid_every,
            remat=self.remat,
        )
        self.decoder = SpatialDecoder(
            self.width,
            self.decoder_depth,
            self.num_heads,
            self.patch,
            self.head,
            self.unroll,
            self.dtype,
            self.frame_encoder,
            self.token_width if self.token_head else 0,
            self.remat,
        )
        if self.codebook_size:
            scale = nn.initializers.normal(self.code_width**-0.5)
            self.codebook = self.param("codebook", scale, (self.codebook_size, self.code_width))

    def encode(
        self,
        rgb_BTHWC,
        time_s_BT,
        depth_BTHW1=None,
        depth_valid_BTHW1=None,
        tokens_BTNE=None,
        depth_relative_B=None,
    ):
        """Clip -> vectors before quantisation.

        Args:
          rgb_BTHWC: float[B, T, H, W, C] within [0, 1].
          time_s_BT: float32[B, T] seconds since frame 0.
          depth_BTHW1: float32[B, T, H, W, 1] depth of the kind that `DepthFusion` reads; for
            `depth_input` "fuse" alone.
          depth_valid_BTHW1: bool[B, T, H, W, 1] where it is known.
          tokens_BTNE: float[B, T, N, E] of the frozen image encoder; where `token_width` is set.
          depth_relative_B: bool[B] clips whose depth is relative, see `DepthFusion`; None: all are metric.

        Returns:
          float32[B, t, Z, U].
        """
        tokens_BTNE = self.tokens(rgb_BTHWC, depth_BTHW1, depth_valid_BTHW1, tokens_BTNE, depth_relative_B)
        return self.encoder(tokens_BTNE, time_s_BT, grid_size(*rgb_BTHWC.shape[2:4], self.patch))

    def tokens(
        self,
        rgb_BTHWC,
        depth_BTHW1=None,
        depth_valid_BTHW1=None,
        tokens_BTNE=None,
        depth_relative_B=None,
    ):
        """Tokens of each frame that the space-time encoder reads, float[B, T, N, E]; see `encode`."""
        if not self.token_width:
            tokens_BTNE = self.image_encoder(rgb_BTHWC)
        if self.depth_input == "fuse":
            tokens_BTNE = self.depth_fusion(
                tokens_BTNE, depth_BTHW1, depth_valid_BTHW1, relative_B=depth_relative_B
            )
        return tokens_BTNE

    def decode(self, rgb_BHWC, quantized_BtZU, time_s_Bt):
        """Frame 0 and codes -> rgb, depth and tokens of every frame k; see `SpatialDecoder`."""
        return self.decoder(rgb_BHWC, quantized_BtZU, time_s_Bt)

    def __call__(self, rgb_BTHWC, time_s_BT, **inputs):
        """Encodes and decodes without quantising; touches every parameter, for `init`."""
        encoded_BtZU = self.encode(rgb_BTHWC, time_s_BT, **inputs)
        return self.decode(rgb_BTHWC[:, 0], encoded_BtZU, time_s_BT[:, 1:])
