"""Attention over cached keys and one's own, and the pre-norm transformer made of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from farsighted_jax.core.placement import spread
from farsighted_jax.layers.attention import attention
from farsighted_jax.layers.mlp import FeedForward
from farsighted_jax.layers.remat import NONE, rematerialised

EPSILON = 1e-5


class KeyValues(NamedTuple):
    """Keys and values float[B, S, A, K]; of all layers with the layer axis in front."""

    keys: Any
    values: Any


def joined(parts, axis: int = -3) -> KeyValues:
    """Concatenates keys and values over their tokens, leaving out what is None."""
    parts = [part for part in parts if part is not None]
    return KeyValues(*(jnp.concatenate(arrays, axis) for arrays in zip(*parts, strict=True)))


class PrefixAttention(nn.Module):
    """Multi-head attention whose queries see a cached prefix before the tokens they come from.

    Queries and keys are normalised per head (QK norm), so that logits stay
    bounded however long one trains, in bfloat16 above all.

    Attributes:
      num_heads: A; must divide the width.
      dtype: of the computation; norms and softmax are float32, as are parameters.
    """

    num_heads: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BQD, mask_B1QS, past=None, buffer=None, index=None):
        """Attends to `past` and to the tokens themselves.

        Args:
          x_BQD: float[B, Q, D].
          mask_B1QS: bool[B or 1, 1, Q, S] over the keys of `past`, then its own.
          past: KeyValues of the prefix, or None.
          buffer: KeyValues with room for more tokens than these Q; None: they are
            all of their group.
          index: int32[] where in the buffer these tokens go.

        Returns:
          float[B, Q, D], and the KeyValues of these tokens (in the buffer, if any).
        """
        B, Q, D = x_BQD.shape
        q, k, v = (
            nn.Dense(D, use_bias=False, dtype=self.dtype, name=name)(x_BQD).reshape(
                B, Q, self.num_heads, D // self.num_heads
            )
            for name in ("query", "key", "value")
        )
        q = nn.RMSNorm(epsilon=EPSILON, dtype=self.dtype, name="query_norm")(q)
        k = nn.RMSNorm(epsilon=EPSILON, dtype=self.dtype, name="key_norm")(k)
        own = KeyValues(k, v)
        if buffer is not None:
            own = KeyValues(
                *(
                    jax.lax.dynamic_update_slice_in_dim(room, new.astype(room.dtype), index, 1)
                    for room, new in zip(buffer, own, strict=True)
                )
            )
        seen = joined((past, own))
        out_BQAK = attention(q, seen.keys, seen.values, mask_B1QS)
        return nn.Dense(D, dtype=self.dtype, name="out")(out_BQAK.reshape(B, Q, D)), own


class PrefixBlock(nn.Module):
    """Pre-norm block: attention, feed-forward.

    Attributes:
      num_heads: attention heads A.
      dtype: of the computation.
    """

    num_heads: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BQD, past_and_buffer, mask_B1QS, index):
        """Maps float[B, Q, D] to the same shape, beside its KeyValues; see `PrefixAttention`."""

        def norm(name):
            return nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name=name)

        x_BQD = spread(x_BQD)
        attend = PrefixAttention(self.num_heads, self.dtype, name="attention")
        change_BQD, own = attend(norm("attention_norm")(x_BQD), mask_B1QS, *past_and_buffer, index)
        x_BQD = x_BQD + change_BQD
        return x_BQD + FeedForward(dtype=self.dtype, name="mlp")(norm("mlp_norm")(x_BQD)), own


class PrefixTransformer(nn.Module):
    """`depth` blocks, scanned: parameters and caches are stacked on a leading layer axis.

    Attributes:
      depth: number of blocks.
      num_heads: attention heads A.
      unroll: blocks a loop iteration, see `SpaceTimeTransformer`.
      remat: key of `remat.POLICIES`.
      dtype: of the computation.
    """

    depth: int
    num_heads: int
    unroll: int = 1
    remat: str = NONE
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BQD, mask_B1QS, past=None, buffer=None, index=None):
        """As `PrefixAttention`, then a last norm; KeyValues of all layers."""
        block_type = rematerialised(PrefixBlock, self.remat, self.unroll >= self.depth)
        scan = nn.scan(
            lambda block, x, layer, mask, index: block(x, layer, mask, index),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast),
            length=self.depth,
            unroll=self.unroll,
        )
        block = block_type(self.num_heads, self.dtype, name="blocks")
        x_BQD, own = scan(block, x_BQD.astype(self.dtype), (past, buffer), mask_B1QS, index)
        return nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name="output_norm")(x_BQD), own
