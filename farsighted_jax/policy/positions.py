"""Where a token stands: learned per group, and on a fixed grid for patches."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from farsighted_jax.layers.positions import sinusoid_2d
from farsighted_jax.policy.layout import Layout


class GroupPositions(nn.Module):
    """Adds to every token its group and its place within the group.

    Not rotary: an angle between a word, a patch of another camera and a code has
    no meaning, patches want two axes and the rest one, all sizes are static, and
    the learned rows of V and A are their queries and that of BOS its token.
    Patches lie on a fixed grid, so that the number of learned rows does not
    depend on the resolution; frame and view are learned on top.

    Attributes:
      layout: sizes of the groups.
      width: D.
    """

    layout: Layout
    width: int

    def setup(self):
        """Makes the tables; flax calls it. A part of size 0 has none."""
        layout = self.layout
        self.language = self._table("language_embedding", layout.language)
        self.frame = self._table("frame_embedding", layout.frame_tokens and layout.frames)
        self.view = self._table("view_embedding", layout.frame_tokens and layout.views)
        self.proprio = self._table("proprio_embedding", layout.proprio)
        self.vision = self._table("vision_queries", layout.size("vision"))
        self.plan = self._table("plan_embedding", layout.size("plan"))
        self.action = self._table("action_queries", layout.size("action"))

    def _table(self, name, rows):
        return self.param(name, nn.initializers.normal(0.02), (rows, self.width)) if rows else None

    def __call__(self, group: str):
        """Positions of all tokens of a group, float32[S, D]."""
        if group == "vision":
            return self.vision + sinusoid_2d(*self.layout.vision_grid, self.width)
        if group != "context":
            return getattr(self, group)
        parts = [part for part in (self.language, self._frames(), self.proprio) if part is not None]
        return jnp.concatenate(parts)

    def _frames(self):
        if self.frame is None:
            return None
        space_ND = sinusoid_2d(*self.layout.grid, self.width)
        return (self.frame[:, None, None] + self.view[:, None] + space_ND).reshape(-1, self.width)
