"""T5 text encoder, versions 1.0 and 1.1 (arXiv 1910.10683), frozen and without dropout."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from farsighted_jax.encoders.dinov2 import variant_sizes
from farsighted_jax.encoders.errors import EncoderError
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


# Published sizes; names without a version are 1.0. Version 1.1 calls its largest two xl and xxl.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "small": _sizes(512, 2048, 6, 8, 64, False),
    "base": _sizes(768, 3072, 12, 12, 64, False),
    "large": _sizes(1024, 4096, 24, 16, 64, False),
    "3b": _sizes(1024, 16384, 24, 32, 128, False),
    "11b": _sizes(1024, 65536, 24, 128, 128, False),
    "v1_1_small": _sizes(512, 1024, 8, 6, 64, True),
    "v1_1_base": _sizes(768, 2048, 12, 12, 64, True),
    "v1_1_large": _sizes(1024, 2816, 24, 16, 64, True),
    "v1_1_xl": _sizes(2048, 5120, 24, 32, 64, True),
    "v1_1_xxl": _sizes(4096, 10240, 24, 64, 64, True),
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
      EncoderError: numbers for which the buckets are not defined.
    """
    half, exact = num_buckets // 2, num_buckets // 4
    if num_buckets % 4 or num_buckets <= 0 or max_distance <= exact:
        raise EncoderError(
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


def checked_text(token_BL, mask_BL):
    """The token ids, with 0 where the mask is False.

    An id outside an embedding's table would be filled with NaN, which no mask holds back.

    Raises:
      EncoderError: ids or a mask of another shape or dtype.
    """
    if token_BL.ndim != 2 or not jnp.issubdtype(token_BL.dtype, jnp.integer):
        raise EncoderError(f"expected token ids int[B, L], found {token_BL.dtype}{list(token_BL.shape)}")
    if mask_BL.shape != token_BL.shape or mask_BL.dtype != jnp.bool_:
        raise EncoderError(
            f"expected a mask bool{list(token_BL.shape)} (True where a token is real), "
            f"found {mask_BL.dtype}{list(mask_BL.shape)}"
        )
    return jnp.where(mask_BL, token_BL, 0)


class T5Attention(nn.Module):
    """Self-attention whose logits are not scaled: the initial weights are instead.

    Attributes:
      num_heads: A.
      head_width: K; A * K need not be the width.
      dtype: of the computation.
      param_dtype: of the parameters.
    """

    num_heads: int
    head_width: int
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BLE, bias_1ALS, mask_B11S):
        """Maps float[B, L, E] to the same shape, with a float32 bias and a mask of keys."""
        B, L, E = x_BLE.shape
        dense = functools.partial(nn.Dense, use_bias=False, dtype=self.dtype, param_dtype=self.param_dtype)
        q_BLAK, k_BLAK, v_BLAK = (
            dense(self.num_heads * self.head_width, name=name)(x_BLE).reshape(
                B, L, self.num_heads, self.head_width
            )
            for name in ("query", "key", "value")
        )
        mask_B1LS = jnp.broadcast_to(mask_B11S, (B, 1, L, L))
        out_BLAK = attention(q_BLAK, k_BLAK, v_BLAK, mask_B1LS, bias_1ALS, scale=1.0)
        return dense(E, name="out")(out_BLAK.reshape(B, L, -1))


class T5FeedForward(nn.Module):
    """Dense, ReLU, Dense (1.0), or Dense times GELU of a second Dense, Dense (1.1).

    Attributes:
      ff_width: F.
      gated: version 1.1.
      dtype: of the computation.
      param_dtype: of the parameters.
    """

    ff_width: int
    gated: bool
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BLE):
        """Maps float[B, L, E] to the same shape."""
        dense = functools.partial(nn.Dense, use_bias=False, dtype=self.dtype, param_dtype=self.param_dtype)
        hidden_BLF = dense(self.ff_width, name="up")(x_BLE)
        if self.gated:
            gate_BLF = nn.gelu(dense(self.ff_width, name="gate")(x_BLE), approximate=True)
            hidden_BLF = gate_BLF * hidden_BLF
        else:
            hidden_BLF = nn.relu(hidden_BLF)
        return dense(x_BLE.shape[-1], name="down")(hidden_BLF)


class T5Block(nn.Module):
    """Pre-norm block; its output is kept among the "intermediates" where these are asked for.

    Attributes:
      num_heads: A.
      head_width: K.
      ff_width: F.
      gated: see `T5FeedForward`.
      dtype: of the computation; norms compute in float32.
      param_dtype: of the parameters.
    """

    num_heads: int
    head_width: int
    ff_width: int
    gated: bool
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BLE, bias_1ALS, mask_B11S):
        """Maps float[B, L, E] to the same shape."""
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        attend = T5Attention(self.num_heads, self.head_width, **dtypes, name="attention")
        mix = T5FeedForward(self.ff_width, self.gated, **dtypes, name="mlp")
        norm = functools.partial(nn.RMSNorm, epsilon=EPSILON, **dtypes)
        x_BLE = x_BLE + attend(norm(name="attention_norm")(x_BLE), bias_1ALS, mask_B11S)
        x_BLE = x_BLE + mix(norm(name="mlp_norm")(x_BLE))
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
      dtype: of the computation; norms and softmax are float32.
      param_dtype: of the parameters.
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
    param_dtype: jnp.dtype = jnp.float32

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
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x_BLE = nn.Embed(self.vocabulary, self.width, **dtypes, name="embedding")(token_BL)
        scanned = nn.scan(
            lambda block, x_BLE, *rest: (block(x_BLE, *rest), None),
            variable_axes={"params": 0, "intermediates": 0},
            split_rngs={"params": True},
            in_axes=(nn.broadcast, nn.broadcast),
            length=self.depth,
            unroll=self.unroll,
        )
        block = T5Block(self.num_heads, self.head_width, self.ff_width, self.gated, **dtypes, name="blocks")
        x_BLE, _ = scanned(block, x_BLE, self._bias(token_BL.shape[1]), mask_BL[:, None, None, :])
        x_BLE = nn.RMSNorm(epsilon=EPSILON, **dtypes, name="final_norm")(x_BLE)
        return jnp.where(mask_BL[..., None], x_BLE, 0)

    def _bias(self, length):
        """What a relative position adds to the logits of every block, float32[1, A, L, S]."""
        offset_LS = np.arange(length)[None, :] - np.arange(length)[:, None]
        bucket_LS = relative_bucket(offset_LS, self.num_buckets, self.max_distance)
        table = nn.Embed(self.num_buckets, self.num_heads, param_dtype=self.param_dtype, name="position_bias")
        return table(bucket_LS).astype(jnp.float32).transpose(2, 0, 1)[None]


def t5_encoder(variant: str, **changes: Any) -> T5Encoder:
    """A published size, e.g. "base" or "v1_1_xxl"; `changes` are attributes of `T5Encoder`.

    Raises:
      EncoderError: an unknown variant; the message names the nearest.
    """
    return T5Encoder(**{**variant_sizes(VARIANTS, variant), **changes})
