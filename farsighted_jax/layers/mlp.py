"""The feed-forward part of a transformer block."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from farsighted_jax.core.placement import spread


class FeedForward(nn.Module):
    """Dense, GELU, Dense.

    Attributes:
      expansion: F / D.
      exact_gelu: the error function, or its tanh approximation, which is
        several times cheaper on CPU.
      dtype: of the computation; parameters are float32.
    """

    expansion: int = 4
    exact_gelu: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BSD):
        """Maps float[..., D] to the same shape."""
        D = x_BSD.shape[-1]
        hidden_BSF = nn.Dense(self.expansion * D, dtype=self.dtype, name="up")(x_BSD)
        hidden_BSF = nn.gelu(spread(hidden_BSF), approximate=not self.exact_gelu)
        return nn.Dense(D, dtype=self.dtype, name="down")(hidden_BSF)
