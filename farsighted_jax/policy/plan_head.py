"""Latent plan: codes in, logits of the codes that follow out (eq. 10, 11)."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

# As small as the learned positions of the plan, so that neither drowns the other.
START = 0.02


class PlanHead(nn.Module):
    """Embeds codes and reads logits, each slot by tables of its own: a code means another thing in each.

    Code z1 is the first slot's of the first transition; z(i+1) is predicted at
    position i, so position and predicted code belong to slot i % Z.

    Attributes:
      num_slots: Z.
      codebook_size: V.
      width: D.
    """

    num_slots: int
    codebook_size: int
    width: int

    def setup(self):
        """Makes the tables; flax calls it."""
        Z, V, D = self.num_slots, self.codebook_size, self.width
        start = nn.initializers.normal(START)
        self.embedding = self.param("embedding", start, (Z, V, D))
        self.kernel = self.param("kernel", start, (Z, D, V))
        self.bias = self.param("bias", nn.initializers.zeros, (Z, V))

    def embed(self, code_BtZ, code_valid_Bt):
        """Vectors of the codes of a plan.

        Args:
          code_BtZ: int32[B, t, Z]; may hold anything where not valid. An index of
            V or more gives NaN, not another row.
          code_valid_Bt: bool[B, t].

        Returns:
          float32[B, n, D], 0 where not valid.
        """
        valid_Bt1 = code_valid_Bt[..., None]
        code_BtZD = self._rows(jnp.arange(self.num_slots), jnp.where(valid_Bt1, code_BtZ, 0))
        code_BtZD = jnp.where(valid_Bt1[..., None], code_BtZD, 0)
        return code_BtZD.reshape(len(code_BtZ), -1, self.width)

    def embed_at(self, code_B, index):
        """Vectors float32[B, D] of codes z_index, int32[B]; the index, from 1 on, may be traced."""
        return self._rows((index - 1) % self.num_slots, code_B)

    def logits(self, hidden_BSD):
        """Logits of z1..zn from the hidden states of the plan, those of its last position left out.

        Args:
          hidden_BSD: float[B, n + 1, D].

        Returns:
          float32[B, n, V].
        """
        B, S, D = hidden_BSD.shape
        hidden_BtZD = hidden_BSD[:, :-1].astype(jnp.float32).reshape(B, -1, self.num_slots, D)
        logit_BtZV = jnp.einsum("BtZD,ZDV->BtZV", hidden_BtZD, self.kernel) + self.bias
        return logit_BtZV.reshape(B, S - 1, self.codebook_size)

    def logits_at(self, hidden_BD, index):
        """Logits float32[B, V] of z_(index + 1) from one position; the index may be traced."""
        slot = index % self.num_slots
        return hidden_BD.astype(jnp.float32) @ jnp.asarray(self.kernel)[slot] + jnp.asarray(self.bias)[slot]

    def _rows(self, slot, code):
        return jnp.asarray(self.embedding).at[slot, code].get(mode="fill", fill_value=jnp.nan)
