"""Diffusion-transformer blocks with adaLN-Zero: a stack over the steps of an action chunk."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from farsighted_jax.core.placement import spread
from farsighted_jax.layers.attention import attention
from farsighted_jax.layers.mlp import FeedForward
from farsighted_jax.layers.remat import NONE, rematerialised

EPSILON = 1e-6


class Modulation(nn.Module):
    """adaLN-Zero: shifts, scales and gates from one vector a sample, all zero at the start.

    Attributes:
      num_parts: how many vectors.
      dtype: of the computation; parameters are float32.
    """

    num_parts: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, vector_BD):
        """Maps float[B, D] to `num_parts` arrays float[B, 1, D]."""
        B, D = vector_BD.shape
        zero = nn.initializers.zeros
        dense = nn.Dense(self.num_parts * D, kernel_init=zero, dtype=self.dtype, name="dense")
        parts = dense(nn.silu(vector_BD)).reshape(B, self.num_parts, 1, D)
        return tuple(parts[:, i] for i in range(self.num_parts))


def modulated(x_BQD, shift_B1D, scale_B1D, dtype):
    """Layer norm without parameters (float32 inside), then (1 + scale) * x + shift."""
    norm = nn.LayerNorm(epsilon=EPSILON, use_bias=False, use_scale=False, dtype=dtype)
    return norm(x_BQD) * (1 + scale_B1D) + shift_B1D


class DitBlock(nn.Module):
    """Attention, to a source or among the steps themselves, then feed-forward; both gated.

    With the gates at zero, as they start, the block is the identity.

    Attributes:
      num_heads: A; must divide the width.
      dtype: of the computation.
    """

    num_heads: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BQD, vector_BD, source_BSD=None, source_valid_BS=None):
        """Runs one block.

        Args:
          x_BQD: float[B, Q, D] steps of a chunk.
          vector_BD: float[B, D] what modulates all steps: time and embodiment.
          source_BSD: float[B, S, D] what is attended to; None: the steps themselves.
          source_valid_BS: bool[B, S] keys that may be seen; None: all.

        Returns:
          float[B, Q, D].
        """
        x_BQD = spread(x_BQD)
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = Modulation(6, self.dtype, name="modulation")(
            vector_BD
        )
        normed_BQD = modulated(x_BQD, shift, scale, self.dtype)
        source_BSD = normed_BQD if source_BSD is None else source_BSD
        x_BQD = x_BQD + gate * self._attend(normed_BQD, source_BSD, source_valid_BS)
        feed_forward = FeedForward(dtype=self.dtype, name="mlp")
        return x_BQD + mlp_gate * feed_forward(modulated(x_BQD, mlp_shift, mlp_scale, self.dtype))

    def _attend(self, x_BQD, source_BSD, source_valid_BS):
        D = x_BQD.shape[-1]

        def heads(name, x):
            projected = nn.Dense(D, use_bias=False, dtype=self.dtype, name=name)(x)
            return projected.reshape(*x.shape[:-1], self.num_heads, D // self.num_heads)

        mask_B11S = None if source_valid_BS is None else source_valid_BS[:, None, None]
        out_BQAK = attention(
            heads("query", x_BQD), heads("key", source_BSD), heads("value", source_BSD), mask_B11S
        )
        return nn.Dense(D, dtype=self.dtype, name="out")(out_BQAK.reshape(x_BQD.shape))


class DitPair(nn.Module):
    """A block that looks at the source, then one in which the steps look at each other.

    Attributes:
      num_heads: attention heads A.
      dtype: of the computation.
    """

    num_heads: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BQD, vector_BD, source_BSD, source_valid_BS, valid_BQ):
        """Maps float[B, Q, D] to the same shape; `valid_BQ` are the steps that may be looked at."""
        cross = DitBlock(self.num_heads, self.dtype, name="cross")
        x_BQD = cross(x_BQD, vector_BD, source_BSD, source_valid_BS)
        return DitBlock(self.num_heads, self.dtype, name="self")(x_BQD, vector_BD, None, valid_BQ)


class Dit(nn.Module):
    """`depth` blocks in pairs, scanned: parameters are stacked on a leading axis of pairs.

    Attributes:
      depth: number of blocks, even.
      num_heads: attention heads A.
      unroll: pairs a loop iteration; results do not change.
      remat: key of `remat.POLICIES`.
      dtype: of the computation.
    """

    depth: int
    num_heads: int
    unroll: int = 1
    remat: str = NONE
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BQD, vector_BD, source_BSD, source_valid_BS=None, valid_BQ=None):
        """See `DitPair`.

        Raises:
          ValueError: an odd depth.
        """
        if self.depth < 2 or self.depth % 2:
            raise ValueError(
                f"DiT blocks come in pairs: expected an even depth of at least 2, found {self.depth}"
            )
        num_pairs = self.depth // 2
        scan = nn.scan(
            lambda pair, carry, *inputs: (pair(carry, *inputs), None),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=num_pairs,
            unroll=self.unroll,
        )
        pair_type = rematerialised(DitPair, self.remat, self.unroll >= num_pairs)
        pair = pair_type(self.num_heads, self.dtype, name="pairs")
        return scan(pair, x_BQD.astype(self.dtype), vector_BD, source_BSD, source_valid_BS, valid_BQ)[0]
