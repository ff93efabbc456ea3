"""A small text encoder that is trained along, in place of a frozen T5: for bytes, without downloads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from farsighted_jax.encoders.dinov2 import variant_sizes
from farsighted_jax.encoders.t5 import checked_text
from farsighted_jax.layers.attention import MultiHeadAttention
from farsighted_jax.layers.mlp import FeedForward
from farsighted_jax.layers.positions import sinusoid_1d

EPSILON = 1e-5

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "tiny": {"width": 32, "depth": 2, "num_heads": 2},
    "small": {"width": 256, "depth": 4, "num_heads": 4},
    "base": {"width": 512, "depth": 6, "num_heads": 8},
}


class TextBlock(nn.Module):
    """Pre-norm block: every real token sees every real token.

    Attributes:
      num_heads: A.
      dtype: of the computation; norms compute in float32.
    """

    num_heads: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BLE, mask_B1LS):
        """Maps float[B, L, E] to the same shape."""

        def norm(name):
            return nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name=name)

        attend = MultiHeadAttention(self.num_heads, dtype=self.dtype, name="attention")
        x_BLE = x_BLE + attend(norm("attention_norm")(x_BLE), mask_B1LS)
        return x_BLE + FeedForward(dtype=self.dtype, name="mlp")(norm("mlp_norm")(x_BLE))


class TextEncoder(nn.Module):
    """Token ids to token vectors, called as `t5.T5Encoder` is.

    Blocks are scanned: their parameters are stacked on a leading layer axis.

    Attributes:
      width: E, even.
      depth: number of blocks.
      num_heads: A; must divide the width.
      vocabulary: rows of the embedding; the default holds bytes (3 special tokens, then 256).
      unroll: see `layers.space_time.SpaceTimeTransformer`.
      dtype: of the computation; parameters, norms and softmax are float32.
    """

    width: int
    depth: int
    num_heads: int
    vocabulary: int = 259
    unroll: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, token_BL, mask_BL):
        """Encodes texts.

        Args:
          token_BL: int32[B, L] token ids within the vocabulary; padding may hold any.
          mask_BL: bool[B, L], True where a token is real.

        Returns:
          float[B, L, E] in `dtype`, zero where `mask_BL` is False.

        Raises:
          EncoderError: ids or a mask of another shape or dtype.
        """
        token_BL = checked_text(token_BL, mask_BL)
        B, L = token_BL.shape
        # As large as the positions, so that neither drowns the other.
        embed = nn.Embed(
            self.vocabulary,
            self.width,
            embedding_init=nn.initializers.normal(1.0),
            dtype=self.dtype,
            name="embedding",
        )
        position_LE = sinusoid_1d(L, self.width)
        x_BLE = embed(token_BL) + position_LE.astype(self.dtype)
        mask_B1LS = jnp.broadcast_to(mask_BL[:, None, None, :], (B, 1, L, L))
        scanned = nn.scan(
            lambda block, x_BLE, mask_B1LS: (block(x_BLE, mask_B1LS), None),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=self.depth,
            unroll=self.unroll,
        )
        block = TextBlock(self.num_heads, self.dtype, name="blocks")
        x_BLE, _ = scanned(block, x_BLE, mask_B1LS)
        x_BLE = nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name="final_norm")(x_BLE)
        return jnp.where(mask_BL[..., None], x_BLE, 0)


def text_encoder(variant: str, **changes: Any) -> TextEncoder:
    """A size of `VARIANTS`; `changes` are attributes of `TextEncoder`.

    Raises:
      EncoderError: an unknown variant; the message names the nearest.
    """
    return TextEncoder(**{**variant_sizes(VARIANTS, variant), **changes})
