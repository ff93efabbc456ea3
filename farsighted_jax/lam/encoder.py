"""Space-time encoder of Farsighted-LAM: image tokens of a clip -> one vector a slot and transition."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from farsighted_jax.layers.keypoints import KEYPOINT_SCALE, SpatialSoftmax
from farsighted_jax.layers.positions import sinusoid, sinusoid_1d, sinusoid_2d
from farsighted_jax.layers.remat import NONE
from farsighted_jax.layers.space_time import EPSILON, SpaceTimeTransformer

# Time enters the sinusoids in units of 50 ms, the finest gap that matters for a robot.
TIME_UNIT_S = 0.05

# Deviations of the first weights of each slot's maps of keypoints: into the slot, into the code.
WHERE_SCALE, MOVED_SCALE = 0.05, 0.0125


class SpaceTimeEncoder(nn.Module):
    """Latent slots in front of the patch tokens of each frame, then causal space-time blocks.

    Attributes:
      width: D.
      depth: number of blocks.
      num_heads: A.
      num_slots: Z latent slots a frame.
      code_width: U.
      num_keypoints: G, 0 for none. With them every slot knows where in its frame
        G learned features lie, and a code starts as a linear map of how far they
        have moved since frame 0. Each slot has its own map: were it shared, the
        optimiser would scale its steps by the largest motion, mostly the
        camera's, and smaller ones would not be found.
      positions: "grid" gives patches 2-D positions and every token its time in
        seconds; "index" numbers the tokens 0..Z+N-1 and has no position in time
        (the layout of the authors' published encoder).
      exact_gelu: see `FeedForward`.
      unroll: see `SpaceTimeTransformer`.
      dtype: of the computation.
      pyramid: see `SpaceTimeTransformer`.
      pyramid_every: see `SpaceTimeTransformer`.
      remat: see `SpaceTimeTransformer`.
    """

    width: int
    depth: int
    num_heads: int
    num_slots: int
    code_width: int
    num_keypoints: int = 0
    positions: str = "grid"
    exact_gelu: bool = False
    unroll: int = 1
    dtype: jnp.dtype = jnp.float32
    pyramid: tuple[int, ...] = ()
    pyramid_every: int = 4
    remat: str = NONE

    @nn.compact
    def __call__(self, tokens_BTNE, time_s_BT, grid: tuple[int, int]):
        """Encodes the transitions 0 -> k of a clip; transition k sees frames <= k only.

        Args:
          tokens_BTNE: float[B, T, N, E] image tokens, patches row by row.
          time_s_BT: float32[B, T] seconds since frame 0.
          grid: patch rows and columns (Y, X), Y * X = N.

        Returns:
          float32[B, t, Z, U], the input of the quantiser.
        """
        B, T, N, E = tokens_BTNE.shape
        queries_TZE = self.param("queries", nn.initializers.normal(0.02), (T, self.num_slots, E))
        queries_BTZE = jnp.broadcast_to(queries_TZE.astype(self.dtype), (B, T, self.num_slots, E))
        x_BTSE = jnp.concatenate([queries_BTZE, tokens_BTNE.astype(self.dtype)], axis=2)
        x_BTSE = nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name="input_norm")(x_BTSE)
        x_BTSD = nn.Dense(self.width, dtype=self.dtype, name="input")(x_BTSE)
        x_BTSD = nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name="width_norm")(x_BTSD)
        x_BTSD = x_BTSD + self._position(time_s_BT, N, grid).astype(self.dtype)
        point_BTG = self._keypoints(tokens_BTNE, grid) if self.num_keypoints else None
        if point_BTG is not None:
            where_BTZD = self._by_slot(point_BTG, self.width, WHERE_SCALE, "where")
            x_BTSD = x_BTSD.at[:, :, : self.num_slots].add(where_BTZD)
        stack = SpaceTimeTransformer(
            self.depth,
            self.num_heads,
            True,
            self.exact_gelu,
            self.unroll,
            self.dtype,
            self.pyramid,
            self.pyramid_every,
            self.remat,
            name="transformer",
        )
        slots_BtZD = stack(x_BTSD)[:, 1:, : self.num_slots]
        code_BtZU = self._code(slots_BtZD, None if point_BTG is None else point_BTG[:, 1:] - point_BTG[:, :1])
        return code_BtZU.astype(jnp.float32)

    def _code(self, slots_BtZD, moved_BtG):
        """What the quantiser gets: of the slots alone or, with keypoints, mainly of how far these moved."""
        if moved_BtG is None:
            return nn.Dense(self.code_width, dtype=self.dtype, name="to_code")(slots_BtZD)
        slots_BtZD = nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name="output_norm")(slots_BtZD)
        small = nn.initializers.normal(0.1 * self.width**-0.5)
        to_code = nn.Dense(self.code_width, kernel_init=small, dtype=self.dtype, name="to_code")
        return to_code(slots_BtZD) + self._by_slot(moved_BtG, self.code_width, MOVED_SCALE, "moved")

    def _keypoints(self, tokens_BTNE, grid):
        """Both coordinates of all keypoints, float32[B, T, 2 G]."""
        find = SpatialSoftmax(self.num_keypoints, self.dtype, name="keypoints")
        point_BTG2 = KEYPOINT_SCALE * find(tokens_BTNE, grid)
        return point_BTG2.reshape(*point_BTG2.shape[:2], -1)

    def _by_slot(self, point_BTG, width, scale, name):
        """One linear map a slot: float[B, T, 2 G] -> float[B, T, Z, width]."""
        start = nn.initializers.normal(scale)
        by_slot = nn.Dense(
            self.num_slots * width, use_bias=False, kernel_init=start, dtype=self.dtype, name=name
        )
        return by_slot(point_BTG).reshape(*point_BTG.shape[:2], self.num_slots, width)

    def _position(self, time_s_BT, num_patches, grid):
        if self.positions == "index":
            return sinusoid_1d(self.num_slots + num_patches, self.width)
        space_ND = sinusoid_2d(*grid, self.width)
        space_SD = jnp.concatenate([jnp.zeros((self.num_slots, self.width)), space_ND])
        return space_SD + sinusoid(time_s_BT / TIME_UNIT_S, self.width)[:, :, None]
