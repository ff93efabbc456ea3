"""Transformer over frames and tokens: attention within a frame, then over time."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from farsighted_jax.layers.attention import MultiHeadAttention
from farsighted_jax.layers.mlp import FeedForward

EPSILON = 1e-5


class SpaceTimeBlock(nn.Module):
    """Pre-norm block: spatial attention, causal temporal attention, feed-forward.

    Attributes:
      num_heads: attention heads A.
      temporal: False leaves the temporal attention out (a plain block for one frame).
      exact_gelu: see `FeedForward`.
      dtype: of the computation; norms compute in float32.
    """

    num_heads: int
    temporal: bool = True
    exact_gelu: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BTSD):
        """Maps float[B, T, S, D] to the same shape; frame k sees frames <= k only."""

        def norm(name):
            return nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name=name)

        attend = MultiHeadAttention(self.num_heads, dtype=self.dtype, name="space")
        x_BTSD = x_BTSD + attend(norm("space_norm")(x_BTSD))
        if self.temporal:
            attend = MultiHeadAttention(self.num_heads, over_time=True, dtype=self.dtype, name="time")
            x_BTSD = x_BTSD + attend(norm("time_norm")(x_BTSD))
        return x_BTSD + FeedForward(exact_gelu=self.exact_gelu, dtype=self.dtype, name="mlp")(
            norm("mlp_norm")(x_BTSD)
        )


class SpaceTimeTransformer(nn.Module):
    """`depth` blocks, scanned: parameters are stacked on a leading layer axis.

    One compiled block serves all layers, so that compile time and program size
    do not grow with depth. Sharding rules name the trailing axes.

    Attributes:
      depth: number of blocks.
      num_heads: attention heads A.
      temporal: see `SpaceTimeBlock`.
      exact_gelu: see `FeedForward`.
      unroll: blocks a loop iteration; all of them on CPU, where a loop costs a
        third of the time, one where compile time counts. Results do not change.
      dtype: of the computation.
    """

    depth: int
    num_heads: int
    temporal: bool = True
    exact_gelu: bool = False
    unroll: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BTSD):
        """Maps float[B, T, S, D] to the same shape."""
        scanned = nn.scan(
            lambda block, carry, _: (block(carry), None),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.depth,
            unroll=self.unroll,
        )
        block = SpaceTimeBlock(self.num_heads, self.temporal, self.exact_gelu, self.dtype, name="blocks")
        x_BTSD, _ = scanned(block, x_BTSD, None)
        return x_BTSD
