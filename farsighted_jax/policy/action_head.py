"""The action head: a flow-matching transformer from condition features to an action chunk (eq. 12, 13)."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from farsighted_jax.layers.dit import EPSILON, Dit, Modulation, modulated
from farsighted_jax.layers.positions import sinusoid, sinusoid_1d
from farsighted_jax.layers.remat import NONE

# Widths and heads are those of the backbone of the same name.
VARIANTS = {
    "tiny": {"width": 96, "depth": 2, "num_heads": 4},
    "small": {"width": 384, "depth": 6, "num_heads": 6},
    "base": {"width": 768, "depth": 8, "num_heads": 12},
    "large": {"width": 1024, "depth": 12, "num_heads": 16},
}

# Flow time enters the sinusoids in thousandths.
TIME_UNIT = 1e-3


class ActionHead(nn.Module):
    """Velocity of a noisy action chunk, given what the action queries of the backbone say.

    Blocks alternate between attention to the condition (and the context, where
    there is one) and attention among the steps of the chunk. Flow time and
    embodiment modulate every block (adaLN-Zero); the output starts at zero.

    Attributes:
      width: D.
      depth: number of blocks, even.
      num_heads: A.
      action_width: M of the widest action space.
      num_embodiments: rows of the embedding. An index beyond them gives NaN, not another row.
      unroll: see `Dit`.
      remat: see `Dit`.
      dtype: of the computation; the velocity is float32.
    """

    width: int
    depth: int
    num_heads: int
    action_width: int
    num_embodiments: int = 1
    unroll: int = 1
    remat: str = NONE
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        noisy_BJM,
        time_B,
        condition_BJE,
        embodiment_B,
        valid_BJM,
        context_BSE=None,
        context_valid_BS=None,
    ):
        """Predicts the velocity at one flow time.

        Args:
          noisy_BJM: float[B, J, M] a point of the path; may hold anything where not valid.
          time_B: float32[B] flow time, see `flow_matching`.
          condition_BJE: float[B, J, E] features of the J action queries.
          embodiment_B: int32[B].
          valid_BJM: bool[B, J, M] real steps and dimensions. A step without any is
            seen by no other.
          context_BSE: float[B, S, E'] context tokens to look at as well, or None.
          context_valid_BS: bool[B, S] which of them are real; None: all.

        Returns:
          float32[B, J, M], 0 where not valid.

        Raises:
          ValueError: an action width other than `action_width`.
        """
        B, J, M = noisy_BJM.shape
        if M != self.action_width:
            raise ValueError(
                f"noisy actions have {M} dimensions, expected action_width = {self.action_width}"
            )
        x_BJD = self._dense("action_in", jnp.where(valid_BJM, noisy_BJM, 0.0)) + self._positions(J)
        source_BSD, source_valid_BS = self._source(condition_BJE, context_BSE, context_valid_BS)
        vector_BD = self._vector(time_B, embodiment_B)
        step_valid_BJ = jnp.any(valid_BJM, axis=-1)
        # A sample without actions needs something to look at, lest its softmax divide by nothing.
        step_valid_BJ |= ~jnp.any(step_valid_BJ, axis=1, keepdims=True)
        stack = Dit(self.depth, self.num_heads, self.unroll, self.remat, self.dtype, name="transformer")
        x_BJD = stack(x_BJD, vector_BD, source_BSD, source_valid_BS, step_valid_BJ)
        shift, scale = Modulation(2, self.dtype, name="output_modulation")(vector_BD)
        x_BJD = modulated(x_BJD, shift, scale, self.dtype)
        zero = nn.initializers.zeros
        velocity_BJM = nn.Dense(M, kernel_init=zero, dtype=jnp.float32, name="velocity")(x_BJD)
        return jnp.where(valid_BJM, velocity_BJM, 0.0)

    def _dense(self, name, x):
        return nn.Dense(self.width, dtype=self.dtype, name=name)(x)

    def _positions(self, num_steps):
        return sinusoid_1d(num_steps, self.width).astype(self.dtype)

    def _vector(self, time_B, embodiment_B):
        """What modulates all steps of a sample, float[B, D]."""
        hidden_BD = self._dense("time_up", sinusoid(time_B / TIME_UNIT, self.width))
        embed = nn.Embed(self.num_embodiments, self.width, dtype=self.dtype, name="embodiment")
        return self._dense("time_down", nn.silu(hidden_BD)) + embed(embodiment_B)

    def _source(self, condition_BJE, context_BSE, context_valid_BS):
        """Tokens that the chunk looks at, and which of them are real: the condition first."""
        norm = nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name="condition_norm")
        # The same positions as the chunk's, so that a step finds its own query.
        source_BSD = self._dense("condition_in", norm(condition_BJE))
        source_BSD = source_BSD + self._positions(condition_BJE.shape[1])
        if context_BSE is None:
            return source_BSD, None
        if context_valid_BS is None:
            context_valid_BS = jnp.ones(context_BSE.shape[:2], bool)
        context_BSE = jnp.where(context_valid_BS[..., None], context_BSE, 0.0)
        norm = nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name="context_norm")
        context_BSD = self._dense("context_in", norm(context_BSE))
        valid_BS = jnp.concatenate([jnp.ones(condition_BJE.shape[:2], bool), context_valid_BS], axis=1)
        return jnp.concatenate([source_BSD, context_BSD], axis=1), valid_BS


class GripperHead(nn.Module):
    """Open or closed for every step and dimension; only gripper dimensions are read.

    Attributes:
      action_width: M.
      dtype: of the norm; the logits are float32.
    """

    action_width: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, condition_BJE):
        """Maps features of the action queries, float[B, J, E], to logits of "open", float32[B, J, M]."""
        condition_BJE = nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name="norm")(condition_BJE)
        return nn.Dense(self.action_width, dtype=jnp.float32, name="open")(condition_BJE)
