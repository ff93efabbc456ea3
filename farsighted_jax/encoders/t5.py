"""T5 text encoder, versions 1.0 and 1.1 (arXiv 1910.10683), frozen and without dropout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from farsighted_jax.layers.attention import attention

EPSILON = 1e-6


def _sizes(width, ff_width, depth, num_heads, head_width, gated):
    return {
        "width": width,
        "ff_width": ff_width,
        "depth": depth,
        "num_heads": num_heads,
        "head_width": head_width,
        "gated": gated,
    }


# Published sizes. Version 1.1 has a gated feed-forward part and calls its largest two xl and xxl.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "t5_small": _sizes(512, 2048, 6, 8, 64, False),
    "t5_base": _sizes(768, 3072, 12, 12, 64, False),
    "t5_large": _sizes(1024, 4096, 24, 16, 64, False),
    "t5_3b": _sizes(1024, 16384, 24, 32, 128, False),
    "t5_11b": _sizes(1024, 65536, 24, 128, 128, False),
    "t5_v1_1_small": _sizes(512, 1024, 8, 6, 64, True),
    "t5_v1_1_base": _sizes(768, 2048, 12, 12, 64, True),
    "t5_v1_1_large": _sizes(1024, 2816, 24, 16, 64, True),
    "t5_v1_1_xl": _sizes(2048, 5120, 24, 32, 64, True),
    "t5_v1_1_xxl": _sizes(4096, 10240, 24, 64, 64, True),
}


def relative_bucket(offset, num_buckets: int = 32, max_distance: int = 128) -> np.ndarray:
    """Bucket of a relative position, both directions apart.

    Half of the buckets are for keys after the query. In each half the first
    half holds one distance a bucket, the rest grows logarithmically up to
    `max_distance`, and the last bucket holds all that is farther.

    Args:
      offset: int[...] key position minus query position.
      num_buckets: divisible by 4.
      max_distance: more than num_buckets / 4.

    Returns:
      int32[...] within [0, num_buckets).

    Raises:
      ValueError: numbers for which the buckets are not defined.
    """
    half, exact = num_buckets // 2, num_buckets // 4
    if num_buckets % 4 or num_buckets <= 0 or max_distance <= exact:
        raise ValueError(
            f"num_buckets must be divisible by 4 and max_distance exceed a quarter of it, "
            f"found {num_buckets} and {max_distance}"
        )
    offset = np.asarray(offset)
    distance = np.abs(offset)
    # float32 as in the published implementation, so that a distance on a border falls on the same side.
    growth = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact))
    growth = growth / np.float32(np.log(max_distance / exact)) * np.float32(half - exact)
    far = np.minimum(exact + np.maximum(growth, 0).astype(np.int32), half - 1)
    return (np.where(distance < exact, distance, far) + half * (offset > 0)).astype(np.int32)


class T5Attention(nn.Module):
    """Self-attention whose logits are not scaled: the initial weights are instead.

    Attributes:
      num_heads: A.
      head_width: K; A * K need not be the width.
      dtype: of the computation.
    """

    num_heads: int
    head_width: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BLE, bias_1ALS, mask_B11S):
        """Maps float[B, L, E] to the same shape, with a float32 bias and a mask of keys."""
        B, L, E = x_BLE.shape
        q_BLAK, k_BSAK, v_BSAK = (
            nn.Dense(self.num_heads * self.head_width, use_bias=False, dtype=self.dtype, name=name)(
                x_BLE
            ).reshape(B, L, self.num_heads, self.head_width)
            for name in ("query", "key", "value")
        )
        mask_B1LS = jnp.broadcast_to(mask_B11S, (B, 1, L, L))
        out_BLAK = attention(q_BLAK, k_BSAK, v_BSAK, mask_B1LS, bias_1ALS, scale=1.0)
        return nn.Dense(E, use_bias=False, dtype=self.dtype, name="out")(out_BLAK.reshape(B, L, -1))


class T5FeedForward(nn.Module):
    """Dense, ReLU, Dense (1.0), or Dense times GELU of a second Dense, Dense (1.1).

    Attributes:
      ff_width: F.
      gated: version 1.1.
      dtype: of the computation.
    """

    ff_width: int
    gated: bool
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BLE):
        """Maps float[B, L, E] to the same shape."""

        def dense(width, name):
            return nn.Dense(width, use_bias=False, dtype=self.dtype, name=name)

        hidden_BLF = dense(self.ff_width, "up")(x_BLE)
        if self.gated:
            hidden_BLF = nn.gelu(dense(self.ff_width, "gate")(x_BLE), approximate=True) * hidden_BLF
        else:
            hidden_BLF = nn.relu(hidden_BLF)
        return dense(x_BLE.shape[-1], "down")(hidden_BLF)


class T5Block(nn.Module):
    """Pre-norm block; its output is kept among the "intermediates" where these are asked for.

    Attributes:
      num_heads: A.
      head_width: K.
      ff_width: F.
      gated: see `T5FeedForward`.
      dtype: of the computation; norms compute in float32.
    """

    num_heads: int
    head_width: int
    ff_width: int
    gated: bool
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BLE, bias_1ALS, mask_B11S):
        """Maps float[B, L, E] to the same shape."""

        def norm(name):
            return nn.RMSNorm(epsilon=EPSILON, dtype=self.dtype, name=name)

        attend = T5Attention(self.num_heads, self.head_width, self.dtype, name="attention")
        x_BLE = x_BLE + attend(norm("attention_norm")(x_BLE), bias_1ALS, mask_B11S)
        x_BLE = x_BLE + T5FeedForward(self.ff_width, self.gated, self.dtype, name="mlp")(
            norm("mlp_norm")(x_BLE)
        )
        self.sow("intermediates", "out", x_BLE)
        return x_BLE


class T5Encoder(nn.Module):
    """Token ids to token vectors; padding changes nothing and comes out as zeros.

    Blocks are scanned: their parameters are stacked on a leading layer axis. One
    table of relative position biases serves all of them.

    Attributes:
      width: E.
      ff_width: F.
      depth: number of blocks.
      num_heads: A.
      head_width: K.
      gated: version 1.1 (True) or 1.0.
      vocabulary: rows of the embedding.
      num_buckets: of relative positions.
      max_distance: tokens, see `relative_bucket`.
      unroll: see `layers.space_time.SpaceTimeTransformer`.
      dtype: of the computation; norms, softmax and position bias are float32.
    """

    width: int
    ff_width: int
    depth: int
    num_heads: int
    head_width: int
    gated: bool
    vocabulary: int = 32_128
    num_buckets: int = 32
    max_distance: int = 128
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
        """
        L = token_BL.shape[1]
        # An id outside the table would be filled with NaN, which no mask holds back.
        token_BL = jnp.where(mask_BL, token_BL, 0)
        x_BLE = nn.Embed(self.vocabulary, self.width, dtype=self.dtype, name="embedding")(token_BL)
        offset_LS = np.arange(L)[None, :] - np.arange(L)[:, None]
        bucket_LS = relative_bucket(offset_LS, self.num_buckets, self.max_distance)
        bias_LSA = nn.Embed(self.num_buckets, self.num_heads, name="position_bias")(bucket_LS)
        bias_1ALS = bias_LSA.astype(jnp.float32).transpose(2, 0, 1)[None]
        scanned = nn.scan(
            lambda block, x_BLE, *rest: (block(x_BLE, *rest), None),
            variable_axes={"params": 0, "intermediates": 0},
            split_rngs={"params": True},
            in_axes=(nn.broadcast, nn.broadcast),
            length=self.depth,
            unroll=self.unroll,
        )
        block = T5Block(self.num_heads, self.head_width, self.ff_width, self.gated, self.dtype, name="blocks")
        x_BLE, _ = scanned(block, x_BLE, bias_1ALS, mask_BL[:, None, None, :])
        x_BLE = nn.RMSNorm(epsilon=EPSILON, dtype=self.dtype, name="final_norm")(x_BLE)
        return jnp.where(mask_BL[..., None], x_BLE, 0)
