"""Transformer over frames and tokens: attention within a frame, then over time."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from farsighted_jax.core.placement import spread
from farsighted_jax.layers.attention import MultiHeadAttention
from farsighted_jax.layers.mlp import FeedForward
from farsighted_jax.layers.remat import NONE, rematerialised
from farsighted_jax.layers.temporal_pyramid import TemporalPyramid

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

        x_BTSD = spread(x_BTSD)
        attend = MultiHeadAttention(self.num_heads, dtype=self.dtype, name="space")
        x_BTSD = x_BTSD + attend(norm("space_norm")(x_BTSD))
        if self.temporal:
            attend = MultiHeadAttention(self.num_heads, over_time=True, dtype=self.dtype, name="time")
            x_BTSD = x_BTSD + attend(norm("time_norm")(x_BTSD))
        return x_BTSD + FeedForward(exact_gelu=self.exact_gelu, dtype=self.dtype, name="mlp")(
            norm("mlp_norm")(x_BTSD)
        )


class SpaceTimeGroup(nn.Module):
    """Some blocks, the last of which ends with a temporal pyramid.

    Attributes:
      num_blocks: how many.
      num_heads: attention heads A.
      pyramid: see `TemporalPyramid.dilations`.
      exact_gelu: see `FeedForward`.
      unroll: see `SpaceTimeTransformer`.
      dtype: of the computation.
      remat: see `SpaceTimeTransformer`; of the blocks and of the pyramid.
    """

    num_blocks: int
    num_heads: int
    pyramid: tuple[int, ...]
    exact_gelu: bool = False
    unroll: int = 1
    dtype: jnp.dtype = jnp.float32
    remat: str = NONE

    @nn.compact
    def __call__(self, x_BTSD):
        """Maps float[B, T, S, D] to the same shape."""
        unrolled = self.unroll >= self.num_blocks
        block_type = rematerialised(SpaceTimeBlock, self.remat, unrolled)
        block = block_type(self.num_heads, True, self.exact_gelu, self.dtype, name="blocks")
        x_BTSD = _scanned(block, x_BTSD, self.num_blocks, self.unroll)
        norm = nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name="pyramid_norm")
        pyramid_type = rematerialised(TemporalPyramid, self.remat, unrolled)
        return x_BTSD + pyramid_type(self.pyramid, self.dtype, name="pyramid")(norm(x_BTSD))


class SpaceTimeTransformer(nn.Module):
    """`depth` blocks, scanned: parameters are stacked on a leading layer axis.

    One compiled block serves all layers, so that compile time and program size
    do not grow with depth. With a temporal pyramid groups of blocks are scanned,
    each a scan of its own; blocks after the last whole group have no pyramid.
    Sharding rules name the trailing axes.

    Attributes:
      depth: number of blocks.
      num_heads: attention heads A.
      temporal: see `SpaceTimeBlock`.
      exact_gelu: see `FeedForward`.
      unroll: blocks a loop iteration; all of them on CPU, where a loop costs a
        third of the time, one where compile time counts. Results do not change.
      dtype: of the computation.
      pyramid: dilations of a temporal pyramid in frames, () for none.
      pyramid_every: which block has one: 4 for every fourth.
      remat: key of `remat.POLICIES`.
    """

    depth: int
    num_heads: int
    temporal: bool = True
    exact_gelu: bool = False
    unroll: int = 1
    dtype: jnp.dtype = jnp.float32
    pyramid: tuple[int, ...] = ()
    pyramid_every: int = 4
    remat: str = NONE

    @nn.compact
    def __call__(self, x_BTSD):
        """Maps float[B, T, S, D] to the same shape."""
        num_groups, num_single = divmod(self.depth, self.pyramid_every) if self.pyramid else (0, self.depth)
        if num_groups:
            group = SpaceTimeGroup(
                self.pyramid_every,
                self.num_heads,
                self.pyramid,
                self.exact_gelu,
                min(self.unroll, self.pyramid_every),
                self.dtype,
                self.remat,
                name="groups",
            )
            x_BTSD = _scanned(group, x_BTSD, num_groups, max(self.unroll // self.pyramid_every, 1))
        if num_single:
            block_type = rematerialised(SpaceTimeBlock, self.remat, self.unroll >= num_single)
            block = block_type(self.num_heads, self.temporal, self.exact_gelu, self.dtype, name="blocks")
            x_BTSD = _scanned(block, x_BTSD, num_single, self.unroll)
        return x_BTSD


def _scanned(module, x_BTSD, length, unroll):
    """Applies `length` copies of a module one after the other, each with parameters of its own."""
    scan = nn.scan(
        lambda part, carry, _: (part(carry), None),
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=length,
        unroll=unroll,
    )
    return scan(module, x_BTSD, None)[0]
